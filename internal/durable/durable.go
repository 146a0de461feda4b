// Package durable writes files so that after a power cut there is either the old content or the new, whole.
package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Owner is who a file belongs to; a negative id leaves it to the system.
type Owner struct{ UID, GID int }

// WriteFile replaces path with what r gives: temp file beside it, owner and mode set before any content is in it,
// fsync, rename, fsync of the directory. On an error the old file stands as it was. Safe to call at once for different
// paths. What a killed writer of the same path left beside it is removed.
func WriteFile(path string, r io.Reader, mode os.FileMode, owner Owner) (err error) {
	dir := filepath.Dir(path)
	temp := "." + filepath.Base(path) + ".tmp-"
	removeStale(dir, temp)
	f, err := os.CreateTemp(dir, temp) // 0600 from the start
	if err != nil {
		return err
	}
	// Held by the writer as long as it lives. Without it (no file system of ours lacks it) the file only looks stale
	// sooner.
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err = f.Chown(owner.UID, owner.GID); err != nil && (owner.UID >= 0 || owner.GID >= 0) {
		return err
	}
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if mode&^os.ModePerm != 0 { // writing takes setuid and setgid away, from root too inside a user namespace
		if err = f.Chmod(mode); err != nil {
			return err
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	renamed = true
	// The new file stands from here on: nothing is taken back any more.
	return errors.Join(f.Close(), SyncDir(dir))
}

// removeStale removes temp files that no writer holds any more. It is a courtesy: what cannot be removed stays.
func removeStale(dir, temp string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), temp)
		if !ok || number == "" || strings.Trim(number, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.Remove(f.Name())
		}
		_ = f.Close() // only read
	}
}

// Rename moves old to new on the same file system and makes that last.
func Rename(old, new string) error {
	if err := os.Rename(old, new); err != nil {
		return err
	}
	return errors.Join(SyncDir(filepath.Dir(new)), SyncDir(filepath.Dir(old)))
}

// SyncDir makes the entries of a directory last.
func SyncDir(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
