package traefik

import (
	"context"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// clocked is a host on which Traefik was started at a time and the roots came to be at others.
type clocked struct {
	host.Host
	began            string
	written, renamed time.Time
	now              time.Time
}

func (c clocked) Run(context.Context, host.Command) (host.Result, error) {
	return host.Result{Stdout: []byte(c.began + "\n")}, nil
}

func (c clocked) Lstat(string) (host.Meta, error) {
	return host.Meta{ModTime: c.written, ChangeTime: c.renamed}, nil
}

func (c clocked) Now() time.Time { return c.now }

// Traefik reads the roots once, at its start. Who was started half a second before they changed does not know them,
// and every request to a backend with a certificate under the new one fails.
func TestStaleTrust(t *testing.T) {
	at := time.Date(2026, 11, 27, 7, 59, 35, 500e6, time.UTC)
	const began = "Fri 2026-11-27 07:59:35.500000 UTC"
	s := spec.Traefik{Cover: "traefik-cover.service", Restart: []string{"systemctl", "restart", "traefik.service"}}
	for name, c := range map[string]struct {
		clocked
		stale bool
	}{
		"changed long before":                          {clocked{began: began, written: at.Add(-time.Hour)}, false},
		"changed in the same second, before":           {clocked{began: began, written: at.Add(-100 * time.Millisecond)}, false},
		"changed in the same second, after":            {clocked{began: began, written: at.Add(100 * time.Millisecond)}, true},
		"changed at once, the file's clock is coarser": {clocked{began: began, written: at.Add(-4 * time.Millisecond)}, true},
		"written before and renamed after": {clocked{began: began, written: at.Add(-50 * time.Millisecond),
			renamed: at.Add(50 * time.Millisecond)}, true},
		"of a time to come": {clocked{began: began, written: at.Add(time.Hour)}, false},
		"it does not run":   {clocked{began: "n/a", written: at}, false},
		"nobody tells when": {clocked{began: "", written: at}, false},
	} {
		c.now = at.Add(time.Minute)
		if got := staleTrust(t.Context(), c.clocked, s) != ""; got != c.stale {
			t.Errorf("%s: stale %t, want %t", name, got, c.stale)
		}
	}
}
