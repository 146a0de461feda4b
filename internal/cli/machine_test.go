package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

func TestFileSystem(t *testing.T) {
	const mounts = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /var rw - xfs /dev/b rw
31 30 0:27 / /var/lib/phoenix rw master:2 - btrfs /dev/c rw
32 22 0:28 / /mnt/with\040space rw - btrfs /dev/d rw
33 22 0:29 / /twice rw - ext4 /dev/e rw
34 22 0:30 / /twice rw - btrfs /dev/f rw
a line that is none
`
	for path, want := range map[string]string{
		"/root/x": "ext4", "/var/lib/phoenix": "btrfs", "/var/lib/phoenix/volumes": "btrfs",
		"/var/lib/phoenixes": "xfs", "/var/lib": "xfs",
		"/mnt/with space/x": "btrfs", "/twice/x": "btrfs", "/": "ext4",
	} {
		if got := fileSystem(mounts, path); got != want {
			t.Errorf("%s is on %s, want %s", path, got, want)
		}
	}
	real, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || fileSystem(string(real), "/proc/self") != "proc" {
		t.Errorf("the kernel's own list is not understood (%v)", err)
	}
}

// counting counts the files that are read to the end.
type counting struct {
	host.Host
	read int
}

func (c *counting) Digest(path string) (string, error) {
	c.read++
	return c.Host.Digest(path)
}

func TestDigestsAreComputedOnceAndAnewForAnotherFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "program")
	old := time.Now().Add(-time.Hour)
	write := func(text string, at time.Time) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	h := &counting{Host: &host.Local{}}
	check := func(want string, reads int) {
		t.Helper()
		d := newDigests(h, filepath.Join(dir, "cache"))
		got, err := d.sum(file)
		if err != nil || got != want || h.read != reads {
			t.Errorf("got %s (%v) after %d reads, want %s after %d", got, err, h.read, want, reads)
		}
		if err := d.save(); err != nil {
			t.Error(err)
		}
	}
	first := write("one", old)
	check(first, 1)
	check(first, 1)
	check(write("two", old.Add(time.Nanosecond)), 2) // same size, another time
	check(write("longer", old), 3)
	// A file this young could be written again within the clock's tick: it is not remembered.
	young := write("young", time.Now())
	check(young, 4)
	check(young, 5)
	if _, err := newDigests(h, dir).sum(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	// Memory that cannot be read is no memory.
	if err := os.WriteFile(filepath.Join(dir, "cache", "digests.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(young, 6)
}

func TestProgramsByURL(t *testing.T) {
	content := "a program"
	sum := sha256.Sum256([]byte(content))
	right := hex.EncodeToString(sum[:])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/step-ca" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(content)) // a client that is gone is the test's own
	}))
	defer server.Close()
	fetch := func(t *testing.T, path, sum string) (string, error) {
		t.Helper()
		cache := t.TempDir()
		a := &app{host: &host.Local{}, log: slog.New(slog.DiscardHandler)}
		cfg := &config.Config{}
		cfg.Hypervisor.Artifacts.StepCA = &config.Program{URL: server.URL + path, SHA256: sum}
		m := config.Machine{Cache: cache, Artifacts: map[string]config.Artifact{}}
		if err := findPrograms(cfg, newDigests(a.host, cache), m); err != nil {
			t.Fatal(err)
		}
		if err := a.fetchPrograms(t.Context(), cfg, m, nil); err != nil {
			t.Errorf("what nobody needs was fetched: %v", err)
		}
		err := a.fetchPrograms(t.Context(), cfg, m, []string{programCA})
		return m.Artifacts[programCA].Path, err
	}
	path, err := fetch(t, "/step-ca", right)
	if got, readErr := os.ReadFile(path); err != nil || readErr != nil || string(got) != content {
		t.Errorf("fetched %q: %v, %v", got, err, readErr)
	}
	wrong := strings.Repeat("0", 64)
	path, err = fetch(t, "/step-ca", wrong)
	if err == nil || !strings.Contains(err.Error(), "want sha256 "+wrong) || !strings.Contains(err.Error(), "step-ca") {
		t.Errorf("another checksum: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*tmp*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err = fetch(t, "/absent", right); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("not found: %v", err)
	}
	if got := redacted("https://me:secret@x.example/y"); strings.Contains(got, "secret") {
		t.Errorf("a password is shown: %s", got)
	}
}

// The changes of one process go on side by side; another process waits until the last of them is done.
func TestJointLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	ours, others := newJointLock(path, 0, nil), newJointLock(path, 0, nil)
	first, err := ours.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := ours.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blocked := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		unlock, err := others.lock(ctx)
		if err == nil {
			unlock()
		}
		return err != nil
	}
	if !blocked() {
		t.Error("another process got in beside two changes")
	}
	first()
	first() // twice is once
	if !blocked() {
		t.Error("another process got in beside one change")
	}
	second()
	if blocked() {
		t.Error("the lock was kept")
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			unlock, err := ours.lock(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			unlock()
		})
	}
	group.Wait()
	if blocked() {
		t.Error("the lock was kept")
	}
}
