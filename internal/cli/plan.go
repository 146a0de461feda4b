package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use: "plan [ID...]", Short: "what apply would do; changes nothing",
		Example: `  phoenix plan
  phoenix plan 101 --detailed-exitcode -o json`,
		ValidArgsFunction: a.completeIDs,
	}
	cmd.RunE = a.command(func(ctx context.Context, ids []string) error {
		a.planIDs = true
		s, err := a.open()
		if err != nil {
			return err
		}
		defer s.close()
		if err := s.known(ids); err != nil {
			return err
		}
		if len(ids) == 0 {
			ids = s.ids()
		}
		s.cutElsewhere()
		s.cutTemplates(ctx)
		objects, containers := s.selected(ids)
		if err := complete(s.cfg, s.machine, containers); err != nil {
			return err
		}
		if _, err := s.renamed(ctx, containers); err != nil {
			return err
		}
		result, err := s.engine().Plan(ctx, objects)
		if err != nil {
			return err
		}
		a.view.Plan(result)
		s.tellFilter()
		s.tellLeft()
		switch {
		case len(result.Failures) > 0:
			return codeError(exitFailed)
		case detailed && len(result.Plan.Changes) > 0:
			return codeError(exitPending)
		}
		return nil
	})
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 where there is something to do")
	a.changingFlags(cmd)
	return cmd
}
