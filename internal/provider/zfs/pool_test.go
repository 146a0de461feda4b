package zfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

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
