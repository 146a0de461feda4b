package engine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each change wakes who rests on it, and nobody else.
func TestWake(t *testing.T) {
	dir := t.TempDir()
	file, directory, late := filepath.Join(dir, "file"), filepath.Join(dir, "directory"),
		filepath.Join(dir, "not", "yet", "there")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Mkdir(directory, 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "v1"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600))
	must(t, os.Symlink("v1", filepath.Join(dir, "now")))
	child := exec.Command("sleep", "60")
	must(t, child.Start())
	defer child.Process.Kill()
	apart := exec.Command("unshare", "--mount", "sh", "-c", "read x; mount -t tmpfs phxwake /tmp; read x")
	step, err := apart.StdinPipe()
	must(t, err)
	must(t, apart.Start())
	defer apart.Process.Kill()
	ended := make(chan error, 1)
	watches := map[object.Address]provider.Watch{
		"thing/file": {Paths: []string{file}}, "thing/directory": {Paths: []string{directory}},
		"thing/late":         {Paths: []string{late}},
		"thing/linked":       {Paths: []string{filepath.Join(dir, "now", "f")}},
		"thing/under a file": {Paths: []string{filepath.Join(dir, "plain", "x", "y")}},
		"thing/process":      {Processes: []int{child.Process.Pid}}, "thing/mounts": {Mounts: []int{apart.Process.Pid}},
		"thing/quiet": {Paths: []string{filepath.Join(dir, "quiet")}},
	}
	for _, c := range []struct {
		name string
		who  object.Address
		do   func() error
	}{
		{"content", "thing/file", func() error { return os.WriteFile(file, []byte("x"), 0o600) }},
		{"mode", "thing/file", func() error { return os.Chmod(file, 0o644) }},
		{"replaced", "thing/file", func() error {
			if err := os.WriteFile(file+".new", nil, 0o600); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		}},
		{"written after it was replaced", "thing/file", func() error { return os.WriteFile(file, []byte("y"), 0o600) }},
		{"removed", "thing/file", func() error { return os.Remove(file) }},
		{"mode of a directory", "thing/directory", func() error { return os.Chmod(directory, 0o777) }},
		{"directory above comes into being", "thing/late",
			func() error { return os.MkdirAll(filepath.Dir(late), 0o700) }},
		{"comes into being", "thing/late", func() error { return os.WriteFile(late, nil, 0o600) }},
		{"replaced behind a link", "thing/linked",
			func() error { return os.WriteFile(filepath.Join(dir, "v1", "f"), []byte("x"), 0o600) }},
		{"something is mounted", "thing/mounts", func() error {
			if os.Geteuid() != 0 {
				t.Skip("mounting needs root")
			}
			_, err := step.Write([]byte("\n"))
			return err
		}},
		{"process ends", "thing/process", func() error {
			go func() { ended <- child.Wait() }()
			return child.Process.Kill()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := NewWake()
			must(t, err)
			defer w.Close()
			for again := range 2 { // anew, as after each round
				added, err := w.Watch(watches)
				must(t, err)
				if added != (again == 0) {
					t.Errorf("call %d: added %t", again+1, added)
				}
			}
			must(t, c.do())
			woken, err := w.Wait(context.Background(), 10*time.Second)
			must(t, err)
			if !slices.Equal(woken, []object.Address{c.who}) {
				t.Errorf("woke %v, want %s", woken, c.who)
			}
		})
	}
}

func TestWakeEnds(t *testing.T) {
	w, err := NewWake()
	must(t, err)
	defer w.Close()
	if woken, err := w.Wait(context.Background(), time.Millisecond); err != nil || woken != nil {
		t.Errorf("at its limit: %v, %v", woken, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if woken, err := w.Wait(ctx, time.Minute); err != nil || woken != nil {
		t.Errorf("cancelled: %v, %v", woken, err)
	}
}

// A change of nftables wakes who rests on it, whoever made it; looking wakes nobody.
func TestWakeFilters(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and nft")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with its namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace: ", err)
	}
	w, err := NewWake()
	must(t, err)
	defer w.Close()
	watches := map[object.Address]provider.Watch{"thing/filter": {Filters: true}, "thing/links": {Links: true}}
	for again := range 2 {
		added, err := w.Watch(watches)
		must(t, err)
		if added != (again == 0) {
			t.Errorf("call %d: added %t", again+1, added)
		}
	}
	for _, c := range []struct {
		args string
		who  []object.Address
	}{
		{"add table bridge phxwake", []object.Address{"thing/filter"}}, {"list ruleset", nil},
		{"flush ruleset", []object.Address{"thing/filter"}},
	} {
		must(t, exec.Command("nft", c.args).Run())
		if woken, err := w.Wait(context.Background(), 200*time.Millisecond); err != nil || !slices.Equal(woken, c.who) {
			t.Errorf("nft %s: woke %v, %v", c.args, woken, err)
		}
	}
}
