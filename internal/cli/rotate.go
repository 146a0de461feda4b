package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// A rotation is no procedure of its own. It changes what should be, and the engine makes it so: a time before which
// keys count as known to others (root/exposed/ID), and a pin that names two roots (spec.Pins). Both are wishes, as the
// configuration is, and no memory of what was done: whoever looks, plan, watch or a container's own daemon, wants the
// same. A rotation that is killed goes on where the system stands.

// wish is what this one command wants besides.
type wish struct {
	makeNext bool      // another root beside the one in use
	exposed  time.Time // planned with, and not written down yet
}

// rotation is what is to be made anew.
type rotation struct {
	// exposed: everything that was made before counts as known to others; zero: all there is now. One that is under way
	// is gone on with.
	exposed time.Time
	// newRoot: the root too.
	newRoot bool
	// prepare: of a new root only as much as has everyone trust it.
	prepare bool
}

// exposed is the time before which keys count as known to others; zero: none do.
func (a *app) exposed(h *house, id string) (time.Time, error) {
	path := h.exposedPath(id)
	raw, err := a.host.ReadFile(path)
	var since time.Time
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return since, err
	default:
		if since, err = time.Parse(time.RFC3339, strings.TrimSpace(string(raw))); err != nil {
			return since, hint("write a time such as 2026-01-31T12:00:00Z into it, or remove it",
				"%s holds no time: %w", path, err)
		}
	}
	if since.After(a.host.Now().Add(time.Minute)) {
		return since, hint("correct the time in it, or the clock",
			"%s names a time to come, %s: nothing could be new enough", path,
			since.Format(time.RFC3339))
	}
	if a.wish.exposed.After(since) {
		since = a.wish.exposed
	}
	return since, nil
}

func (h *house) exposedPath(id string) string { return filepath.Join(h.machine.Root, "exposed", id) }

// rotate makes keys anew, with a new root too where that is asked for, and gives what was done. It takes the consent
// for granted. Killed anywhere and called again it comes to the same end. In the end everything that was looked at is
// true.
func (a *app) rotate(ctx context.Context, r rotation) (view.Rotated, error) {
	if r.newRoot {
		return a.replaceRoot(ctx, r.prepare)
	}
	return a.replaceKeys(ctx, r.exposed)
}

// replaceKeys makes the passwords, the intermediate and everybody's certificates anew, all with new keys, under the
// same root.
func (a *app) replaceKeys(ctx context.Context, exposed time.Time) (view.Rotated, error) {
	var done view.Rotated
	s, err := a.openCA(ctx)
	if err != nil {
		return done, err
	}
	defer s.close()
	if exposed.IsZero() {
		if exposed, err = s.sinceWhen(ctx); err != nil {
			return done, err
		}
	}
	if err := s.noSuccession(); err != nil {
		return done, err
	}
	if exposed.After(s.machine.Exposed) {
		if err := s.expose(exposed); err != nil {
			return done, err
		}
	}
	s.close()
	a.view.Step("new passwords, intermediate and certificates, all with new keys, for what was made before " +
		exposed.UTC().Format(time.RFC3339))
	if s, err = a.openCA(ctx); err != nil {
		return done, err
	}
	defer s.close()
	done.Root = s.machine.Pins.Root
	return done, s.everyone(ctx, &done, true)
}

// sinceWhen is the time before which keys count as known: that of a rotation which is not at its end, else now.
func (s *session) sinceWhen(ctx context.Context) (time.Time, error) {
	if s.machine.Exposed.IsZero() {
		return s.now(), nil
	}
	running, _, err := s.alive(ctx)
	if err != nil {
		return time.Time{}, err
	}
	objects, _ := s.selected(running)
	result, err := s.engine().Plan(ctx, objects)
	if err != nil {
		return time.Time{}, err
	}
	for _, c := range result.Plan.Changes {
		if blames(c, s.machine.Exposed) {
			return s.machine.Exposed, nil
		}
	}
	return s.now(), nil
}

// blames is whether a change is because of that time.
func blames(c plan.Change, since time.Time) bool {
	why := since.UTC().Format(time.RFC3339)
	return strings.Contains(c.Reason, why) ||
		slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return strings.Contains(f.Have, why) })
}

// now is a second ago: file systems and certificates tell time in coarser steps than the clock.
func (s *session) now() time.Time { return s.host.Now().Add(-time.Second).UTC().Truncate(time.Second) }

// expose writes the time down.
func (s *session) expose(since time.Time) error {
	path := s.exposedPath(s.authority())
	if err := s.host.MkdirAll(filepath.Dir(path), 0o711, host.Root); err != nil {
		return err
	}
	return s.host.WriteFile(path, []byte(since.UTC().Format(time.RFC3339)+"\n"), 0o644, host.Root)
}

// noSuccession fails while one root takes another's place.
func (s *session) noSuccession() error {
	if p := s.machine.Pins; p.Next+p.Old+p.Gone != "" {
		return hint(s.again("ca rotate --new-root --yes"),
			"a new root is on its way: that has to come to its end first")
	}
	return nil
}

// authority is the id of the CA's container; empty: there is none.
func (h *house) authority() string {
	for _, o := range h.objects {
		if o.Address.Kind() == spec.KindStepCA {
			return o.Container
		}
	}
	return ""
}

// openCA enters a house whose CA is made and runs.
func (a *app) openCA(ctx context.Context) (*session, error) {
	s, err := a.open()
	if err != nil {
		return nil, err
	}
	id := s.authority()
	if id == "" {
		s.close()
		return nil, hint(`give one container the feature "step_ca"`, "no container of this configuration is a CA")
	}
	if s.machine.Pins.Root == "" {
		s.close()
		return nil, hint(s.again("create "+id), "the CA of container %s is not made yet: no root is pinned", id)
	}
	running, _, err := s.alive(ctx)
	if err == nil && !slices.Contains(running, id) {
		err = hint(s.again("start "+id), "the CA's container %s does not run", id)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// alive are the containers that exist: those that run, and those that do not.
func (s *session) alive(ctx context.Context) (running, down []string, err error) {
	for _, c := range s.cfg.Containers {
		exists, err := s.sees(ctx, spec.KindContainer, c.ID)
		if err != nil {
			return nil, nil, err
		}
		if len(exists.Status) == 0 || exists.Delta.Action == plan.Create {
			continue
		}
		runs, err := s.sees(ctx, spec.KindRunning, c.ID)
		switch {
		case err != nil:
			return nil, nil, err
		case stateOf(runs.Status) == stateRunning:
			running = append(running, c.ID)
		default:
			down = append(down, c.ID)
		}
	}
	return running, down, nil
}

// sees looks at a container's object on the hypervisor; nothing where there is no such object.
func (s *session) sees(ctx context.Context, kind, id string) (provider.Observation, error) {
	o, ok := object.Find(s.objects, object.NewAddress(kind, id))
	if !ok {
		return provider.Observation{}, nil
	}
	return s.target.Observe(ctx, o)
}

// tries is how often what others undid meanwhile is done again.
const tries = 3

// everyone makes true what runs, looks at it once more, and fails unless all of it is as it should be. Containers that
// exist and do not run are in the way, but where they may come later.
func (s *session) everyone(ctx context.Context, done *view.Rotated, later bool) error {
	running, down, err := s.alive(ctx)
	if err != nil {
		return err
	}
	for range tries {
		if err = s.converge(ctx, done, running); err != nil {
			return err
		}
		if err = s.verified(ctx, running); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if len(down) > 0 && !later {
		return hint(s.again("start "+strings.Join(down, " "))+", or delete what is not needed any more; then run it "+
			"again: it goes on from here",
			"in the way: %s, and cannot be brought along; nothing is taken away before everyone is", asleep(down))
	}
	done.Down = down
	return nil
}

func asleep(ids []string) string {
	if len(ids) == 1 {
		return "container " + ids[0] + " does not run"
	}
	return "containers " + strings.Join(ids, ", ") + " do not run"
}

// converge makes containers true and notes what was done.
func (s *session) converge(ctx context.Context, done *view.Rotated, ids []string) error {
	applied, err := s.makeTrue(ctx, ids)
	if err != nil {
		return err
	}
	done.Add(applied)
	switch {
	case applied.Stopped != nil:
		return applied.Stopped
	case len(applied.Result.Failures) > 0:
		return hint("when it is mended, run it again: it goes on from here",
			"not everything could be made so; this comes first: %w", applied.Result.Err())
	}
	return nil
}

// verified looks at everything once more: the objects, by the drivers that keep them, and the checks of health that are
// about certificates and who trusts what.
func (s *session) verified(ctx context.Context, ids []string) error {
	s.cutTemplates(ctx)
	objects, _ := s.selected(ids)
	result, err := s.engine().Plan(ctx, objects)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(result.Failures) > 0:
		return fmt.Errorf("what was done cannot be looked at: %w", result.Err())
	case len(result.Plan.Changes) > 0:
		return fmt.Errorf("%s is not as it should be, though it was made so: %s", result.Plan.Changes[0].Address,
			result.Plan.Changes[0].Reason)
	}
	for _, c := range s.check(ctx, objects).Checks {
		pki := slices.ContainsFunc([]string{"PHX-CA-", "PHX-CERT-", "PHX-TRUST-", "PHX-PIN-"},
			func(p string) bool { return strings.HasPrefix(c.ID, p) })
		if c.ID == health.IssuedUnwanted || c.ID == health.IssuedForeign {
			continue // certificates of before, which a rotation is the remedy for
		}
		if pki && c.Status == "fail" {
			return fmt.Errorf("%s of %s: %s (%s)", c.ID, c.Object, c.Summary, c.Evidence)
		}
	}
	return nil
}

// authorityStatus is what was seen of the CA's volume.
type authorityStatus struct {
	Root string `json:"root_fingerprint"`
	Next string `json:"next_root"`
	Old  string `json:"old_root"`
}

func (s *session) seeAuthority(r engine.Result) (st authorityStatus, err error) {
	raw := r.Statuses[object.NewAddress(spec.KindStepCA, s.authority())].Status
	if len(raw) == 0 {
		return st, errors.New("nothing could be seen of the CA's volume")
	}
	return st, json.Unmarshal(raw, &st)
}
