package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
)

func (a *app) createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create ID...", Aliases: []string{"converge"},
		Short: "make these containers, and what they depend on, as they should be; twice = no change",
		Example: `  phoenix create 103
  phoenix create 103 101 102 -o json`,
		Args: someIDs, ValidArgsFunction: a.completeIDs,
		RunE: a.command(func(ctx context.Context, ids []string) error {
			a.opts.firstRoot = true
			return a.applyIDs(ctx, ids)
		}),
	}
	a.changingFlags(cmd)
	return cmd
}

// changingFlags are those of commands that make objects true.
func (a *app) changingFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&a.opts.yes, "yes", false, "agree where something would be destroyed, or restarted")
	f.BoolVar(&a.opts.prune, "prune", false, "remove rules that others wrote from the containers' firewalls on Proxmox")
	f.BoolVar(&a.opts.trust, "trust-host", false, "put the CA's root into the hypervisor's own store too")
	f.BoolVar(&a.opts.downgrade, "downgrade", false, "agree to this phoenix taking the place of a higher version")
	f.BoolVar(&a.opts.newRoot, "new-root", false, "agree to a new CA where the pinned one is lost: every client must "+
		"trust it anew")
}

// applyIDs makes the containers with these ids true, all without ids, and shows what was done.
func (a *app) applyIDs(ctx context.Context, ids []string) error {
	a.moveIDs = a.opts.yes
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
	done, err := s.makeTrue(ctx, ids)
	if err != nil {
		return err
	}
	a.view.Applied(done)
	return outcome(done)
}

// outcome is the exit code after an apply.
func outcome(done view.Applied) error {
	switch {
	case done.Stopped != nil || len(done.Result.Failures) > 0:
		return codeError(exitFailed)
	case done.Health != nil && !done.Health.Healthy:
		return codeError(exitUnhealthy)
	}
	return nil
}
