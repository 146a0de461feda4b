package certificate

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// reloading remembers what was run, and whether the container's lock was held then.
type reloading struct {
	host.Host
	held bool
	ran  map[string]bool
}

func (h *reloading) Run(_ context.Context, c host.Command) (host.Result, error) {
	h.ran[c.Argv[0]] = h.held
	return host.Result{}, nil
}

// The reload is the user's own command, and may hang: nobody else waits for it.
func TestReloadRunsOutsideOfTheLock(t *testing.T) {
	h := &reloading{Host: &host.Local{}, held: true, ran: map[string]bool{}}
	ctx := provider.WithAlone(t.Context(), func(key string, do func(context.Context) error) error {
		if key == "" {
			t.Error("it has no key, so that it would run twice at once")
		}
		h.held = false
		defer func() { h.held = true }()
		return do(t.Context())
	})
	s := spec.Certificate{CommonName: "a.test.internal", CertPath: filepath.Join(t.TempDir(), "x.crt"),
		Reload: []string{"/usr/local/bin/reload"}}
	if err := reload(ctx, h, s); err != nil {
		t.Fatal(err)
	}
	if held, ran := h.ran["/usr/local/bin/reload"]; !ran || held {
		t.Errorf("ran: %t, under the lock: %t", ran, held)
	}
}
