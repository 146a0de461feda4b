package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) restartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "restart ID...", Short: "stop these containers, then start them",
		Example: "  phoenix restart 102",
		Args:    someIDs, ValidArgsFunction: a.completeIDs,
	}
	cmd.RunE = a.command(func(ctx context.Context, ids []string) error {
		s, err := a.enter(ids)
		if err != nil {
			return err
		}
		defer s.close()
		if err := s.proxmoxReady(ids); err != nil {
			return err
		}
		if err := s.made(ctx, ids); err != nil {
			return err
		}
		stopped, err := s.stops(ctx, ids)
		if err != nil {
			return err
		}
		done, err := s.runs(ctx, ids)
		if err != nil {
			return err
		}
		done.Result.Mutations += stopped.Mutations
		a.view.Applied(done)
		return outcome(done)
	})
	cmd.Flags().BoolVar(&a.opts.yes, "yes", false, "agree where something would be destroyed, or restarted")
	return cmd
}
