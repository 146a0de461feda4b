package beneath_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/beneath"
)

var limits = beneath.Limits{Depth: 4, Size: 64, Entries: 100}

func readAll(t *testing.T, dir string, l beneath.Limits) (paths []string, all []byte, err error) {
	t.Helper()
	err = beneath.Read(dir, l, func(e beneath.Entry) bool {
		paths = append(paths, e.Path)
		all = append(all, e.Data...)
		return filepath.Base(e.Path) != "closed"
	})
	return paths, all, err
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b/key"), "one")
	write(t, filepath.Join(dir, "a"), "two")
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", 65))
	write(t, filepath.Join(dir, "closed/key"), secret)
	write(t, filepath.Join(dir, "1/2/3/4/5/6"), secret)
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	paths, all, err := readAll(t, dir, limits)
	want := []string{"1", "1/2", "1/2/3", "1/2/3/4", "1/2/3/4/5", "a", "b", "b/key", "closed", "large"}
	if err != nil || !slices.Equal(paths, want) || string(all) != "twoone" {
		t.Errorf("%q with %q, %v", paths, all, err)
	}
	few := limits
	few.Entries = 3
	if _, _, err := readAll(t, dir, few); err == nil || !strings.Contains(err.Error(), "more than 3 entries") {
		t.Errorf("more names than the limit: %v", err)
	}
}

func TestReadUnderAttack(t *testing.T) {
	c := newCanary(t)
	for i := range rounds {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		stop := attack(t, plant(t, dir, c))
		_, all, err := readAll(t, dir, limits)
		stop()
		if err != nil || bytes.Contains(all, []byte(secret)) {
			t.Fatalf("read %q, %v", all, err)
		}
	}
	c.check(t)
}

func TestLstat(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a/key"), "")
	must(t, os.Chmod(filepath.Join(dir, "a/key"), 0o640))
	must(t, os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "link")))
	if mode, uid, err := beneath.Lstat(dir, "a/key"); err != nil || mode != 0o640 || uid != os.Geteuid() {
		t.Errorf("%v of %d, %v", mode, uid, err)
	}
	for _, path := range []string{"link/key", "../x", "a/..", "", "a/none"} {
		if _, _, err := beneath.Lstat(dir, path); err == nil {
			t.Errorf("%q was reached", path)
		}
	}
}
