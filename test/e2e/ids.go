package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// idsOfOne is how many ids a container has.
const idsOfOne = 65536

// shiftTree gives the files of a container that does not run the ids that they would have with another range, as a
// house of before has them. It keeps what a system needs to boot.
func shiftTree(t testing.TB, top string, from, to int) {
	t.Helper()
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		uid, gid := int(st.Uid), int(st.Gid)
		if uid >= from && uid < from+idsOfOne {
			uid += to - from
		}
		if gid >= from && gid < from+idsOfOne {
			gid += to - from
		}
		if err := os.Lchown(path, uid, gid); err != nil || fi.Mode()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chmod(path, fi.Mode())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// templateIDs is where the ids of a copy of a template begin.
func templateIDs(t testing.TB, tree string) int {
	t.Helper()
	fi, err := os.Lstat(tree)
	if err != nil {
		t.Fatal(err)
	}
	return int(fi.Sys().(*syscall.Stat_t).Uid)
}
