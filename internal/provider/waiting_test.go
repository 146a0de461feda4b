package provider_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// A boot that takes long is not waited for once the work is to end, though what was begun would come to its end.
func TestABootIsNotWaitedForWhenTheWorkEnds(t *testing.T) {
	dir := t.TempDir()
	// It hangs, or cannot be asked yet.
	for _, tool := range []string{"#!/bin/sh\nexec sleep 60\n", "#!/bin/sh\nexit 1\n"} {
		if err := os.WriteFile(filepath.Join(dir, "lxc-attach"), []byte(tool), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		told := errors.New("told to stop")
		stop, tell := context.WithCancelCause(context.Background())
		time.AfterFunc(200*time.Millisecond, func() { tell(told) })
		begun := time.Now()
		err := provider.Inside{ID: "103"}.WaitBooted(provider.WithStop(context.Background(), stop), &host.Local{},
			func(context.Context) error { return nil })
		if took := time.Since(begun); !errors.Is(err, told) || took > 2*time.Second {
			t.Errorf("%q: %v after %s", tool, err, took)
		}
	}
}

// What is stopped is known while nothing waits, too.
func TestStopped(t *testing.T) {
	told := errors.New("told to stop")
	stop, tell := context.WithCancelCause(context.Background())
	ctx := provider.WithStop(context.Background(), stop)
	if err := provider.Stopped(ctx); err != nil {
		t.Error(err)
	}
	tell(told)
	if err := provider.Stopped(ctx); !errors.Is(err, told) {
		t.Error(err)
	}
	if err := provider.Stopped(context.Background()); err != nil {
		t.Error(err)
	}
}
