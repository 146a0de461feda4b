package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
)

func (a *app) rotateCommand() *cobra.Command {
	var r rotation
	cmd := &cobra.Command{
		Use: "rotate", Short: "new passwords, a new intermediate, new certificates with new keys; with --new-root a " +
			"new root too",
		Long: `rotate makes anew what others may know: the passwords of the CA's keys, the intermediate,
and the certificates of every container, all with new keys made where they are used. Only
ACME is left to get a certificate by. The root stays; with --new-root it is replaced as
well, in four steps, each of them verified in every container before the next. The gateway
answers all the time. Killed anywhere and run again it goes on from there.

Without --yes the plan is shown and nothing is changed.`,
		Example: `  phoenix ca rotate
  phoenix ca rotate --yes
  phoenix ca rotate --new-root --prepare --yes && phoenix ca show > both.pem
  phoenix ca rotate --new-root --yes`,
		Args: nothingMore,
	}
	f := cmd.Flags()
	f.BoolVar(&a.opts.yes, "yes", false, "agree to it")
	f.BoolVar(&r.newRoot, "new-root", false, "replace the root as well: needed where its key may be known to others")
	f.BoolVar(&r.prepare, "prepare", false, "of a new root only what has everyone trust it: ca show then gives both, "+
		"for clients outside")
	cmd.RunE = a.command(func(ctx context.Context, _ []string) error {
		if r.prepare && !r.newRoot {
			return &usageError{err: errors.New("--prepare is for --new-root"),
				hint: "phoenix ca rotate --new-root --prepare --yes"}
		}
		return a.caRotate(ctx, r)
	})
	return cmd
}

func (a *app) caRotate(ctx context.Context, r rotation) error {
	if !a.opts.yes {
		return a.planRotation(ctx, r)
	}
	done, err := a.rotate(ctx, r)
	done.Elapsed = a.elapsed()
	if err != nil {
		return err
	}
	a.view.Rotated(done)
	return nil
}

// planRotation shows what would be done and changes nothing.
func (a *app) planRotation(ctx context.Context, r rotation) error {
	s, err := a.openCA(ctx)
	if err != nil {
		return err
	}
	defer func() { s.close() }()
	out := view.Rotation{Root: s.machine.Pins.Root}
	if r.newRoot {
		out.Steps, out.At = rootSteps, stepOf(s.machine.Pins)
		a.wish.makeNext = out.At == 0
	} else if err := s.noSuccession(); err != nil {
		return err
	} else if a.wish.exposed, err = s.sinceWhen(ctx); err != nil {
		return err
	}
	defer func() { a.wish = wish{} }()
	s.close()
	if s, err = a.openCA(ctx); err != nil {
		return err
	}
	running, down, err := s.alive(ctx)
	if err != nil {
		return err
	}
	objects, _ := s.selected(running)
	if out.Result, err = s.engine().Plan(ctx, objects); err != nil {
		return err
	}
	out.Exposed, out.Down = since(a.wish.exposed), down
	a.view.Rotation(out)
	return codeError(exitFailed)
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
