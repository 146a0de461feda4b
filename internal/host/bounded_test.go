package host_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// silent is a host of which the file system below /etc/pve says nothing until it is let go.
type silent struct {
	host.Host
	asked, letGo chan struct{}
	ran          int
}

func (s *silent) ReadFile(path string) ([]byte, error) { return []byte(path), nil }

func (s *silent) Lstat(path string) (host.Meta, error) {
	s.asked <- struct{}{}
	<-s.letGo
	return host.Meta{}, nil
}

func (s *silent) Run(context.Context, host.Command) (host.Result, error) {
	s.ran++
	return host.Result{}, nil
}

// What a hanging file system is asked is given up, once: nothing more hangs in it meanwhile, no command is begun that
// would, and all else goes on. It is asked again when it has answered.
func TestBounded(t *testing.T) {
	inner := &silent{asked: make(chan struct{}, 9), letGo: make(chan struct{})}
	b := &host.Bounded{Host: inner, Dir: "/etc/pve", Tools: []string{"pct"}, Limit: 20 * time.Millisecond}
	if _, err := b.Lstat("/etc/pve/local"); !errors.Is(err, host.ErrUnresponsive) {
		t.Fatalf("%v", err)
	}
	if _, err := b.ReadFile("/etc/pve/lxc/103.conf"); !errors.Is(err, host.ErrUnresponsive) || len(inner.asked) != 1 {
		t.Errorf("asked %d times: %v", len(inner.asked), err)
	}
	ctx := context.Background()
	for _, argv := range [][]string{{"pct", "list"}, {"/usr/sbin/pct", "list"},
		{"sh", "-c", "cat $1", "sh", "/etc/pve/lxc/103.conf"}} {
		if _, err := b.Run(ctx, host.Command{Argv: argv}); !errors.Is(err, host.ErrUnresponsive) || inner.ran != 0 {
			t.Errorf("%q: %v", argv, err)
		}
	}
	if raw, err := b.ReadFile("/etc/pvetc"); err != nil || string(raw) != "/etc/pvetc" {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := b.Run(ctx, host.Command{Argv: []string{"true"}}); err != nil || inner.ran != 1 {
		t.Errorf("%v", err)
	}
	close(inner.letGo)
	for range 500 {
		if _, err := b.ReadFile("/etc/pve/lxc/103.conf"); err == nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Error("it has answered, and is not asked again")
}
