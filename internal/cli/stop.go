package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stop ID...", Short: "stop these containers, those that depend on others first",
		Example: "  phoenix stop 101 102",
		Args:    someIDs, ValidArgsFunction: a.completeIDs,
		RunE: a.command(func(ctx context.Context, ids []string) error {
			s, err := a.enter(ids)
			if err != nil {
				return err
			}
			defer s.close()
			if err := s.hold(ids, "stopped"); err != nil {
				return err
			}
			done, err := s.stops(ctx, ids)
			if err != nil {
				return err
			}
			a.view.Removed(done)
			return nil
		}),
	}
}
