package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// elsewhere is a process in a mount namespace of its own.
func elsewhere(t *testing.T) int {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sleep", "120")
	if err := cmd.Start(); err != nil {
		t.Skipf("no unshare: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid)); err == nil && ns != own {
			return cmd.Process.Pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no mount namespace of its own")
	return 0
}

// apart runs what takes its thread elsewhere on one that ends with it.
func apart(do func() error) error {
	out := make(chan error)
	go func() { out <- do() }()
	return <-out
}

func TestMountIntoAnotherNamespace(t *testing.T) {
	pid := elsewhere(t)
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	for _, d := range []string{source, target} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	there := fmt.Sprintf("/proc/%d/root%s/file", pid, target)
	if err := apart(func() error { return MountInto(pid, source, target) }); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(there); err != nil || string(raw) != "x" {
		t.Errorf("it is not seen there: %q %v", raw, err)
	}
	if _, err := os.Lstat(filepath.Join(target, "file")); !os.IsNotExist(err) {
		t.Errorf("it is seen here too: %v", err)
	}
	for range 2 { // repeatable
		if err := apart(func() error { return UnmountFrom(pid, target) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(there); !os.IsNotExist(err) {
		t.Errorf("it is still seen there: %v", err)
	}
}

// A link in the way, which a container may have put there, is not followed.
func TestMountFollowsNoLink(t *testing.T) {
	pid := elsewhere(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := apart(func() error { return MountInto(pid, dir, filepath.Join(dir, "link")) }); err == nil {
		t.Error("a link was followed")
	}
	if err := apart(func() error { return UnmountFrom(pid, filepath.Join(dir, "link")) }); err == nil {
		t.Error("a link was followed")
	}
}
