package traefik

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Traefik never takes a certificate out of its memory, and reads a root once: for both it has to be started anew.
// Meanwhile a second one, with the certificates of before, answers at another port, which the gateway asks where the
// first has no answer.

const (
	coverLimit = 10 * time.Second
	coverAt    = "127.0.0.1"
)

// covered is whether another one runs.
func covered(h host.Host, s spec.Traefik) bool {
	if s.Cover == "" {
		return false
	}
	_, err := h.Lstat(coverDir)
	return err == nil
}

// startCover starts the other one, and waits until it serves all that Traefik serves now. It does not start one that
// cannot: where the storage lacks what Traefik has in its memory the other one would order it, and answer no challenge.
// One that runs and answers for every name is left running: whoever started it was ended in the midst of it, and what
// Traefik has by now may be less.
// From here until Traefik is started anew the lock is kept: nobody else may take the other one for one that was left
// running. An error is why the work is given up: then nothing more may be changed, as the other one copies the storage
// when it starts. Whether it stands in does not matter.
func (p patience) startCover(ctx context.Context, h host.Host, s spec.Traefik, now *Status) error {
	if s.Cover == "" || standsIn(ctx, h, s) || !inStorage(ctx, h, s, now) {
		return nil
	}
	if _, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "daemon-reload"}, Mutates: true}); err != nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, min(coverLimit, p.limit/4))
	defer cancel()
	_, err := h.Run(bounded, host.Command{Argv: []string{"systemctl", "restart", s.Cover}, Mutates: true})
	for err == nil && !covers(bounded, h, s, now) {
		err = pause(bounded, lookEvery)
	}
	return context.Cause(ctx)
}

// inStorage is whether Traefik serves anything, and has all that in its storage.
func inStorage(ctx context.Context, h host.Host, s spec.Traefik, now *Status) bool {
	all, _, err := readStorage(ctx, h, s.Storage)
	if err != nil {
		return false
	}
	leaves, serves := storedLeaves(all), false
	for _, c := range now.Certificates {
		if c.Serial == "" {
			continue
		}
		serves = true
		if !slices.ContainsFunc(leaves,
			func(leaf *x509.Certificate) bool { return leaf.SerialNumber.Text(16) == c.Serial }) {
			return false
		}
	}
	return serves
}

func covers(ctx context.Context, h host.Host, s spec.Traefik, now *Status) bool {
	for _, c := range now.Certificates {
		if c.Serial == "" {
			continue
		}
		at := fmt.Sprintf("%s:%d", coverAt, spec.CoverPort)
		if got := look(ctx, h, s, nil, at, c.Host); got.Serial != c.Serial {
			return false
		}
	}
	for _, r := range loadedRoutes(ctx, h, s, coverAddress) {
		if r.Have != r.Want {
			return false
		}
	}
	return true
}

// standsIn is whether the other one runs, knows the roots of now, and answers for every name with a certificate that the
// gateway takes.
func standsIn(ctx context.Context, h host.Host, s spec.Traefik) bool {
	if !covered(h, s) || !runs(ctx, h, s.Cover) || startedBefore(ctx, h, s.Cover, s.ACME.RootFile) {
		return false
	}
	roots, err := readRoots(h, s)
	if err != nil {
		return false
	}
	for _, name := range hosts(s) {
		c := look(ctx, h, s, roots, fmt.Sprintf("%s:%d", coverAt, spec.CoverPort), name)
		if c.Serial == "" || strings.HasPrefix(c.Problem, foreign) || strings.HasPrefix(c.Problem, expired) {
			return false
		}
	}
	for _, r := range loadedRoutes(ctx, h, s, coverAddress) {
		if r.Have != r.Want {
			return false
		}
	}
	return true
}

// stopCover ends it, if it runs. It answers what it has begun to, and nobody waits for that but who asked for it: the
// order to stop is given under the lock, so that whoever needs it next sees that it goes.
func stopCover(ctx context.Context, h host.Host, s spec.Traefik) error {
	if !covered(h, s) {
		return nil
	}
	if _, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "stop", "--no-block", s.Cover},
		Mutates: true}); err != nil {
		return err
	}
	return provider.Wait(ctx, func(ctx context.Context) error {
		bounded, cancel := context.WithTimeout(ctx, stopLimit)
		defer cancel()
		for covered(h, s) && !runs(bounded, h, s.Cover) && pause(bounded, lookEvery) == nil {
		}
		return context.Cause(ctx)
	})
}

// stopLimit is above its unit's TimeoutStopSec.
const stopLimit = 25 * time.Second

// runs is whether a unit runs and nothing is about to change that.
func runs(ctx context.Context, h host.Host, unit string) bool {
	res, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "show", "--property=ActiveState,Job", unit}})
	if err != nil {
		return false
	}
	active := false
	for line := range strings.Lines(string(res.Stdout)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "ActiveState":
			active = value == "active"
		case "Job":
			if value != "" && value != "0" {
				return false
			}
		}
	}
	return active
}

// staleTrust says why Traefik does not know the roots as they are now: it was started before they changed. Empty: it
// does, or nobody can tell.
func staleTrust(ctx context.Context, h host.Host, s spec.Traefik) string {
	if s.Cover == "" || !startedBefore(ctx, h, s.Restart[len(s.Restart)-1], s.ACME.RootFile) {
		return ""
	}
	return "read before the roots changed"
}

// clockSteps is how much the time of a file may be behind the clock that systemd reads.
const clockSteps = 10 * time.Millisecond

// startedBefore is whether a unit runs that was started before a file came to be as it is; false where nobody can tell.
// A file of a time to come, as a corrected clock leaves it, is one of these: a restart would not change it.
func startedBefore(ctx context.Context, h host.Host, unit, file string) bool {
	began := startedAt(ctx, h, unit)
	m, err := h.Lstat(file)
	if began.IsZero() || err != nil {
		return false
	}
	changed := m.ModTime
	if m.ChangeTime.After(changed) {
		changed = m.ChangeTime
	}
	return changed.Add(clockSteps).After(began) && !changed.After(h.Now())
}

// startedAt is when a unit was started, to the microsecond; zero: nobody can tell.
func startedAt(ctx context.Context, h host.Host, unit string) time.Time {
	res, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "show", "--value", "--timestamp=us+utc",
		"--property=ExecMainStartTimestamp", unit}})
	if err != nil {
		return time.Time{}
	}
	began, err := time.Parse("Mon 2006-01-02 15:04:05.999999 UTC", strings.TrimSpace(string(res.Stdout)))
	if err != nil {
		return time.Time{}
	}
	return began
}
