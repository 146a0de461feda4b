package zfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

// pool is a pool on a file that all tests of this process share.
var pool struct {
	sync.Once
	name, directory string
	err             error
}

// testPool is the pool's name. Without ZFS the test is skipped.
func testPool(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/dev/zfs"); err != nil {
		t.Skip("this kernel has no ZFS; make test-zfs runs it in a machine that has")
	}
	conformance.Isolated(t, "zpool", "zfs", "setfattr")
	pool.Do(func() {
		pool.name = fmt.Sprintf("phxtest%d", os.Getpid())
		if pool.directory, pool.err = os.MkdirTemp("", "phxzfs-"); pool.err != nil {
			return
		}
		image := filepath.Join(pool.directory, "image")
		script := `truncate -s 512M "$2" && zpool create -f -m none "$1" "$2"`
		if out, err := exec.Command("sh", "-c", script, "sh", pool.name, image).CombinedOutput(); err != nil {
			pool.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if pool.err != nil {
		t.Fatalf("no pool on a file: %v", pool.err)
	}
	return pool.name
}

func removePool() {
	if pool.directory == "" {
		return
	}
	if out, err := exec.Command("zpool", "destroy", "-f", pool.name).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "pool %s is left: %v\n%s", pool.name, err, out)
		return
	}
	_ = os.RemoveAll(pool.directory) // only a file is in it
}

// A pool that is away is a permanent error, and nothing is made in its place: not even the volume's directory, in which
// a container would write what nobody finds again. When it is back the volume is the one from before.
func TestPoolAwayAndBack(t *testing.T) {
	testPool(t) // is ZFS here?
	name, directory := fmt.Sprintf("phxaway%d", os.Getpid()), t.TempDir()
	image := filepath.Join(directory, "image")
	command(t, "truncate", "-s", "128M", image)
	command(t, "zpool", "create", "-f", "-m", "none", name, image)
	t.Cleanup(func() { command(t, "zpool", "destroy", "-f", name) })
	h := &house{t: t, pool: name, root: t.TempDir(), host: &host.Local{}}
	v := h.spec("103", "ssl")
	h.settle(v)
	key := filepath.Join(v.Path, "key")
	must(t, os.WriteFile(key, []byte("kept"), 0o600))

	command(t, "zpool", "export", name)
	for range 2 {
		if err := h.apply(v); !provider.IsPermanent(err) || !strings.Contains(err.Error(), "is not here now") {
			t.Errorf("without the pool: %v", err)
		}
	}
	if left, err := os.ReadDir(v.Path); err == nil && len(left) > 0 {
		t.Errorf("in place of the volume there is %v", left)
	}
	command(t, "zpool", "import", "-d", directory, name)
	h.settle(v)
	if b, err := os.ReadFile(key); string(b) != "kept" {
		t.Errorf("the volume after the pool came back: %q, %v", b, err)
	}
	if n := h.settle(v); n != 0 {
		t.Errorf("%d changes once more", n)
	}
}

// A copy that zfs send and receive made has the volume's own properties. Beside the volume it changes nothing; mounted
// over it, as zfs receive itself does without -u, it is a permanent error that names it, and nothing is done to either.
func TestReplicaIsNotTheVolume(t *testing.T) {
	h := newHouse(t)
	v := h.spec("103", "ssl")
	h.settle(v)
	replica, script := h.pool+"/replica", `zfs snapshot "$1@s" && zfs send -p "$1@s" | zfs receive -u "$2"`
	command(t, "sh", "-c", script, "sh", h.dataset(v), replica)
	if got := command(t, "zfs", "get", "-H", "-o", "value", "mounted,phoenix:volume", replica); got != "no\n103/ssl\n" {
		t.Errorf("the replica: %q", got)
	}
	if n := h.settle(v); n != 0 {
		t.Errorf("beside a replica: %d changes", n)
	}
	command(t, "zfs", "mount", "-O", replica)
	err := h.apply(v)
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), replica+" is mounted at") {
		t.Errorf("with a replica over it: %v", err)
	}
	command(t, "zfs", "unmount", replica)
	if n := h.settle(v); n != 0 {
		t.Errorf("after the replica was unmounted: %d changes", n)
	}
}
