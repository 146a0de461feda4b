package traefik

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// againShare is the part of the time that Traefik has for looking again before it is restarted: a quarter; less in
// tests.
var againShare = time.Duration(4)

const lookEvery = 20 * time.Millisecond

// patience is how long all that Traefik is waited for may take, in one Apply: as long as an order of any other
// certificate. A healthy CA needs well under a second. While it is waited for no lock is held, and whoever asks for the
// end of the work gets it.
type patience struct {
	limit time.Duration
	began time.Time
}

func patienceOf(s spec.Traefik) patience {
	return patience{limit: cmp.Or(time.Duration(s.OrderTimeout), spec.OrderTimeout), began: time.Now()}
}

// wait waits for so long at most, and not beyond the limit of all; the last wait has its quarter, whatever the lock
// took. An error is why the wait was given up, or why the lock cannot be had again: then nothing more may be changed.
func (p patience) wait(ctx context.Context, most time.Duration, do func(context.Context)) error {
	return provider.Wait(ctx, func(ctx context.Context) error {
		bounded, cancel := context.WithTimeout(ctx, min(most, max(p.limit-time.Since(p.began), p.limit/4)))
		defer cancel()
		do(bounded)
		return context.Cause(ctx)
	})
}

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
	p := patienceOf(s)
	if curable(st) {
		owner, err := h.Lookup(s.User, "")
		if err != nil {
			return err
		}
		if err := h.WriteFile(againFile(s), renderAgain(h.Now()), 0o640, host.Owner{GID: owner.GID}); err != nil {
			return err
		}
		if d, err := p.settle(ctx, h, s, p.limit/againShare); err != nil || d.Empty() {
			return err
		}
	}
	// Others may have changed it meanwhile.
	st, err := observeServed(ctx, h, s)
	if err != nil || lacks(st).Empty() {
		return err
	}
	if err := p.startCover(ctx, h, s, st); err != nil {
		return err
	}
	return p.restart(ctx, h, s)
}

// restart starts Traefik anew, without what is no good in its storage, and waits until it serves everything. Another
// phoenix may have done so while this one waited: its orders are not cut off.
func (p patience) restart(ctx context.Context, h host.Host, s spec.Traefik) error {
	if s.Cover == "" || !startedAt(ctx, h, s.Restart[len(s.Restart)-1]).After(p.began) {
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
	}
	d, err := p.settle(ctx, h, s, p.limit)
	if err != nil || d.Empty() {
		return err
	}
	return provider.WithHint(fmt.Errorf("traefik was restarted and %s after %s; its log has the CA's answer",
		describe(d), p.limit), slowCA)
}

const (
	unanswered = "traefik did not answer in time"
	slowCA     = "journalctl -u traefik.service in the container; for a CA that is slow, step_ca.order_timeout"
)

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

// settle waits until nothing is left to do, and gives what is left at the end.
func (p patience) settle(ctx context.Context, h host.Host, s spec.Traefik, most time.Duration) (d plan.Delta,
	err error) {
	err = p.wait(ctx, most, func(ctx context.Context) { d = settle(ctx, h, s) })
	return d, err
}

func settle(ctx context.Context, h host.Host, s spec.Traefik) plan.Delta {
	for d := (plan.Delta{Action: plan.Update, Reason: unanswered}); ; {
		st, err := observeServed(ctx, h, s)
		if ctx.Err() == nil {
			if err != nil {
				return plan.Delta{Action: plan.Update, Reason: err.Error()}
			}
			d = lacks(st)
		}
		if (d.Empty() && ctx.Err() == nil) || pause(ctx, lookEvery) != nil {
			return d
		}
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
