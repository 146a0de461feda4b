package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) startCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "start ID...", Short: "start containers that exist, with their network and volumes",
		Example: "  phoenix start 101 102",
		Args:    someIDs, ValidArgsFunction: a.completeIDs,
	}
	cmd.RunE = a.command(func(ctx context.Context, ids []string) error {
		s, err := a.enter(ids)
		if err != nil {
			return err
		}
		defer s.close()
		done, err := s.runs(ctx, ids)
		if err != nil {
			return err
		}
		a.view.Applied(done)
		return outcome(done)
	})
	cmd.Flags().BoolVar(&a.opts.yes, "yes", false, "agree where something would be destroyed, or restarted")
	return cmd
}
