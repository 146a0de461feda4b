package traefik

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
func startCover(ctx context.Context, h host.Host, s spec.Traefik, now *Status) error {
	if s.Cover == "" || !inStorage(ctx, h, s, now) {
		return nil
	}
	for _, argv := range [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "restart", s.Cover}} {
		if _, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true}); err != nil {
			return fmt.Errorf("what stands in for traefik: %w", err)
		}
	}
	stoppable, end := provider.Stoppable(ctx)
	defer end()
	ctx, cancel := context.WithTimeout(stoppable, coverLimit)
	defer cancel()
	for !covers(ctx, h, s, now) {
		if err := pause(ctx, lookEvery); err != nil {
			return errors.New("what stands in for traefik does not serve what traefik does")
		}
	}
	return nil
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

// stopCover ends it, if it runs. It answers what it has begun to.
func stopCover(ctx context.Context, h host.Host, s spec.Traefik) error {
	if !covered(h, s) {
		return nil
	}
	_, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "stop", s.Cover}, Mutates: true})
	return err
}

// staleTrust says why Traefik does not know the roots as they are now: it was started before they changed. Empty: it
// does, or nobody can tell.
func staleTrust(ctx context.Context, h host.Host, s spec.Traefik) string {
	if s.Cover == "" {
		return ""
	}
	unit := s.Restart[len(s.Restart)-1]
	res, err := h.Run(ctx,
		host.Command{Argv: []string{"systemctl", "show", "--value", "--timestamp=unix",
			"--property=ExecMainStartTimestamp", unit}})
	if err != nil {
		return ""
	}
	began, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(string(res.Stdout)), "@"), 10, 64)
	m, statErr := h.Lstat(s.ACME.RootFile)
	if err != nil || statErr != nil || m.ModTime.Unix() <= began {
		return ""
	}
	return "read before the roots changed"
}
