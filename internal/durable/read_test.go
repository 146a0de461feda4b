package durable_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/durable"
)

// within fails where f is not done in a moment: what blocks is the fault.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it blocks")
	}
}

// What is no regular file is refused at once, over a link too.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, target := range map[string]string{
		"link-fifo": "fifo", "zero": "/dev/zero", "null": "/dev/null", "tty": "/dev/tty",
	} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	odd := []string{at("fifo"), at("link-fifo"), at("socket"), at("zero"), at("null"), at("tty"), "/dev/zero"}
	for _, path := range odd {
		within(t, func() {
			var not *durable.NotRegularError
			if _, err := durable.ReadFile(path, 1<<20); !errors.As(err, &not) {
				t.Errorf("%s: %v", path, err)
			}
		})
	}
	if _, err := durable.ReadFile(dir, 1); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := durable.ReadFile(at("absent"), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

func TestReadHasALimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("12345678"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := durable.ReadFile(path, 8); err != nil || !bytes.Equal(got, []byte("12345678")) {
		t.Errorf("all of it: %q, %v", got, err)
	}
	var large *durable.TooLargeError
	if _, err := durable.ReadFile(path, 7); !errors.As(err, &large) {
		t.Errorf("one more: %v", err)
	}
	if err := os.Truncate(path, 1<<40); err != nil { // sparse
		t.Skip(err)
	}
	within(t, func() {
		if _, err := durable.ReadFile(path, 1<<20); !errors.As(err, &large) {
			t.Errorf("a terabyte: %v", err)
		}
	})
	// The kernel's files have no size, and are files.
	if got, err := durable.ReadFile("/proc/self/mountinfo", 16<<20); err != nil || len(got) == 0 {
		t.Errorf("mountinfo: %d bytes, %v", len(got), err)
	}
}

// A fifo where a directory should be does not block either.
func TestSyncDirOfAFifo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, func() {
		if err := durable.SyncDir(path); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%v", err)
		}
	})
}
