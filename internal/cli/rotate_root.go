package cli

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// The steps of a new root, as people read them.
var rootSteps = []string{
	"a new root and its intermediate are made beside the old ones",
	"both roots are pinned, and everyone trusts both",
	"the CA signs under the new root, and everyone gets new certificates with new keys",
	"no container trusts the old root any more, and its key is destroyed here",
}

// stepOf is where a pin stands: the step of rootSteps that it wishes for; 0: it wishes for none.
func stepOf(p spec.Pins) int {
	switch {
	case p.Next != "":
		return 1
	case p.Old != "":
		return 2
	case p.Gone != "":
		return 3
	}
	return 0
}

// replaceRoot goes from step to step: what the pin wishes for is made so, everyone is looked at, then the pin wishes
// for the next. With prepare it ends where everyone trusts both.
func (a *app) replaceRoot(ctx context.Context, prepare bool) (view.Rotated, error) {
	var done view.Rotated
	for {
		s, err := a.openCA(ctx)
		if err != nil {
			return done, err
		}
		pins := s.machine.Pins
		if !a.opts.trust && a.hostTrusts(pins) {
			a.opts.trust = true // its store is looked after, too
			s.close()
			continue
		}
		at := stepOf(pins)
		a.view.Step(fmt.Sprintf("step %d of %d: %s", at+1, len(rootSteps), rootSteps[at]))
		next, err := s.rootStep(ctx, &done, pins)
		if err == nil && prepare && next.Old != "" {
			done.Root, done.Next = pins.Root, pins.Next
			s.close()
			return done, nil
		}
		if err == nil {
			err = s.repin(ctx, next)
		}
		s.close()
		if done.Root = next.Root; err != nil {
			done.Root = pins.Root
			return done, err
		}
		if stepOf(next) == 0 && at > 1 {
			return done, nil
		}
	}
}

// hostTrusts is whether one of the roots is in the hypervisor's own store, where only --trust-host puts it.
func (a *app) hostTrusts(p spec.Pins) bool {
	raw, err := a.host.ReadFile(config.RootFile)
	if err != nil {
		return false
	}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		if f := hex.EncodeToString(sum[:]); slices.Contains([]string{p.Root, p.Next, p.Old, p.Gone}, f) {
			return true
		}
	}
	return false
}

// rootStep makes true what the pin wishes for and gives the pin that comes then.
func (s *session) rootStep(ctx context.Context, done *view.Rotated, pins spec.Pins) (spec.Pins, error) {
	switch stepOf(pins) {
	case 0:
		next, err := s.makeNext(ctx, done)
		return spec.Pins{Root: pins.Root, Next: next}, err
	case 1:
		if there, err := s.nextThere(ctx, pins); err != nil || !there {
			return spec.Pins{Root: pins.Root}, err // another is made: this one nobody has used yet
		}
		return spec.Pins{Root: pins.Next, Old: pins.Root}, s.everyone(ctx, done, false)
	case 2:
		done.Old = pins.Old
		s.nameRoots(ctx, done, pins)
		return spec.Pins{Root: pins.Root, Gone: pins.Old}, s.everyone(ctx, done, false)
	}
	done.Old = pins.Gone
	return spec.Pins{Root: pins.Root}, s.everyone(ctx, done, false)
}

// nameRoots notes what the roots are called, while the CA still hands out both. Without an answer they go by their
// fingerprints.
func (s *session) nameRoots(ctx context.Context, done *view.Rotated, pins spec.Pins) {
	id := s.authority()
	ca, _ := specOf[spec.StepCA](s.objects, object.NewAddress(spec.KindStepCA, id))
	for fingerprint, name := range map[string]*string{pins.Root: &done.RootName, pins.Old: &done.OldName} {
		der, err := s.fetchRoot(ctx, s.objects, id, ca, fingerprint)
		if err != nil {
			s.log.Debug("the name of a root is not known", "root", fingerprint, "error", err)
			continue
		}
		if c, err := x509.ParseCertificate(der); err == nil {
			*name = c.Subject.CommonName
		}
	}
}

// makeNext has the CA make another root beside the one in use, and gives its fingerprint.
func (s *session) makeNext(ctx context.Context, done *view.Rotated) (string, error) {
	s.wish.makeNext = true
	inner, err := s.openCA(ctx)
	s.wish.makeNext = false
	if err != nil {
		return "", err
	}
	defer inner.close()
	if err := inner.converge(ctx, done, []string{inner.authority()}); err != nil {
		return "", err
	}
	seen, err := inner.seeAuthority(done.Result)
	if err == nil && seen.Next == "" {
		err = fmt.Errorf("the CA of container %s has made no other root", inner.authority())
	}
	return seen.Next, err
}

// nextThere is whether the CA has the root that is to take the other's place, there or beside.
func (s *session) nextThere(ctx context.Context, pins spec.Pins) (bool, error) {
	o, ok := object.Find(s.objects, object.NewAddress(spec.KindStepCA, s.authority()))
	if !ok {
		return false, nil
	}
	client, err := s.links.any(ctx, o.Host)
	if err != nil {
		return false, err
	}
	obs, err := client.Observe(ctx, o)
	if err != nil {
		return false, err
	}
	seen, err := s.seeAuthority(engine.Result{Statuses: map[object.Address]provider.Observation{o.Address: obs}})
	return seen.Next == pins.Next || seen.Root == pins.Next, err
}

// repin writes the pin while no round of watch, which read the one before, is under way.
func (s *session) repin(ctx context.Context, p spec.Pins) error {
	pin, ok := specOf[spec.Pin](s.objects, object.NewAddress(spec.KindPin, s.authority()))
	if !ok {
		return fmt.Errorf("no object keeps the pin of container %s", s.authority())
	}
	unlock, err := engine.FileLock{Path: s.roundsPath(), After: s.limits.silence(),
		Waiting: func(e *engine.LockedError) {
			s.view.Event(engine.Event{Stage: engine.Waiting, Err: e})
		}}.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return s.host.WriteFile(pin.Path, []byte(p.String()), 0o644, host.Root)
}

// roundsPath is the lock that each full round of watch shares.
func (h *house) roundsPath() string { return filepath.Join(h.machine.Root, "rounds.lock") }
