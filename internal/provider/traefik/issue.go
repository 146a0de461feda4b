package traefik

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// How long Traefik may take; shorter in tests. An order of a healthy CA takes it well under a second.
var (
	againLimit   = 5 * time.Second
	restartLimit = 15 * time.Second
)

const lookEvery = 20 * time.Millisecond

// applyServed makes Traefik ask for what it does not have.
func applyServed(ctx context.Context, h host.Host, s spec.Traefik) error {
	st, err := observeServed(ctx, h, s)
	if err != nil {
		return err
	}
	if d := lacks(st); !d.Empty() {
		if err := mend(ctx, h, s, st); err != nil {
			return err
		}
		if err := noteCurrent(ctx, h, s); err != nil {
			return err
		}
	}
	return stopCover(ctx, h, s)
}

// mend has Traefik look again where that may help. Certificates that are no good it would keep: they are taken out of
// its storage. Its client may hang on to a challenge that the CA gave up on, or to an account that the CA does not
// know: then only a restart with a clean storage helps.
func mend(ctx context.Context, h host.Host, s spec.Traefik, st *Status) error {
	if curable(st) {
		owner, err := h.Lookup(s.User, "")
		if err != nil {
			return err
		}
		if err := h.WriteFile(againFile(s), renderAgain(h.Now()), 0o640, host.Owner{GID: owner.GID}); err != nil {
			return err
		}
		if d, err := settle(ctx, h, s, againLimit); err != nil || d.Empty() {
			return err
		}
	}
	// What goes wrong with the one that stands in must not keep Traefik from being mended.
	_ = startCover(ctx, h, s, st)
	if err := provider.Stopped(ctx); err != nil {
		return fmt.Errorf("traefik was not restarted: %w", err)
	}
	return restart(ctx, h, s)
}

// restart starts Traefik anew, without what is no good in its storage, and waits until it serves everything.
func restart(ctx context.Context, h host.Host, s spec.Traefik) error {
	roots, err := readRoots(h, s)
	if err != nil {
		return err
	}
	if err := purge(ctx, h, s, roots); err != nil {
		return err
	}
	if _, err := h.Run(ctx, host.Command{Argv: s.Restart, Mutates: true}); err != nil {
		return fmt.Errorf("restart traefik: %w", err)
	}
	d, err := settle(ctx, h, s, restartLimit)
	if err != nil {
		return err
	}
	if !d.Empty() {
		return fmt.Errorf("traefik was restarted and %s after %s; its log has the CA's answer (journalctl -u "+
			"traefik.service)", describe(d), restartLimit)
	}
	return nil
}

// curable is whether Traefik, looking again, may mend it all: it has what is bad in memory and in its storage.
func curable(st *Status) bool {
	if st.Trust != "" {
		return false
	}
	for _, c := range st.Certificates {
		for _, bad := range []string{foreign, exposed, expired, overdue, unsaved} {
			if strings.HasPrefix(c.Problem, bad) {
				return false
			}
		}
	}
	return true
}

// settle waits until nothing is left to do, and gives what is left at the end. It fails where the work is to end before
// that.
func settle(ctx context.Context, h host.Host, s spec.Traefik, limit time.Duration) (plan.Delta, error) {
	stoppable, end := provider.Stoppable(ctx)
	defer end()
	ctx, cancel := context.WithTimeout(stoppable, limit)
	defer cancel()
	for d := (plan.Delta{Action: plan.Update, Reason: "traefik did not answer in time"}); ; {
		st, err := observeServed(ctx, h, s)
		if ctx.Err() == nil {
			if err != nil {
				return plan.Delta{Action: plan.Update, Reason: err.Error()}, nil
			}
			d = lacks(st)
		}
		if d.Empty() && ctx.Err() == nil {
			return d, nil
		}
		if pause(ctx, lookEvery) == nil {
			continue
		}
		if stoppable.Err() != nil {
			return d, fmt.Errorf("whether traefik serves everything is not waited for: %w", context.Cause(stoppable))
		}
		return d, nil
	}
}

func describe(d plan.Delta) string {
	parts := make([]string, 0, len(d.Fields))
	for _, f := range d.Fields {
		parts = append(parts, f.Path+": "+f.Have)
	}
	if len(parts) == 0 {
		return d.Reason
	}
	return strings.Join(parts, "; ")
}
