package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// disk is an ext4 on a loop device whose image lies on a Btrfs, so that a
// reflink of the image is one moment of what the device had received: page
// cache that was not yet written is not in it.
type disk struct {
	dir   string
	mount string
	image string
}

func command(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// newDisk makes a disk of that size; size 0 is a plain directory, for figures
// that the two loop devices would spoil.
func newDisk(work, name string, megabytes int64) (*disk, error) {
	d := &disk{dir: filepath.Join(work, name)}
	if megabytes == 0 {
		d.mount = filepath.Join(d.dir, "mnt")
		return d, os.MkdirAll(d.mount, 0o700)
	}
	d.mount, d.image = filepath.Join(d.dir, "mnt"), filepath.Join(d.dir, "btrfs", "disk.img")
	for _, p := range []string{d.mount, filepath.Join(d.dir, "btrfs"), filepath.Join(d.dir, "copy")} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return nil, err
		}
	}
	outer := filepath.Join(d.dir, "outer.img")
	steps := [][]string{
		{"truncate", "-s", "6G", outer}, {"mkfs.btrfs", "-q", outer},
		{"mount", "-o", "loop", outer, filepath.Join(d.dir, "btrfs")},
		{"truncate", "-s", fmt.Sprintf("%dM", megabytes), d.image}, {"mkfs.ext4", "-q", "-m", "0", d.image},
		{"mount", "-o", "loop", d.image, d.mount},
	}
	for _, s := range steps {
		if err := command(s...); err != nil {
			return d, err
		}
	}
	return d, nil
}

// cut copies the image as it is this moment.
func (d *disk) cut(n int) (string, error) {
	snap := filepath.Join(d.dir, "btrfs", fmt.Sprintf("cut-%d.img", n))
	return snap, command("cp", "--reflink=always", d.image, snap)
}

// mountCut mounts a copy; ext4 replays its journal, as after a power cut.
func (d *disk) mountCut(snap string) (string, error) {
	at := filepath.Join(d.dir, "copy")
	return at, command("mount", "-o", "loop", snap, at)
}

func (d *disk) unmountCut(snap string) error {
	return errors.Join(unmount(filepath.Join(d.dir, "copy")), os.Remove(snap))
}

// unmount tries for a while: a loop device lets go of its image a little
// after the file system on it is gone.
func unmount(path string) (err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = command("umount", path); err == nil {
			return nil
		}
	}
	return err
}

func (d *disk) close() error {
	if d.image == "" {
		return os.RemoveAll(d.dir)
	}
	err := unmount(d.mount)
	return errors.Join(err, unmount(filepath.Join(d.dir, "btrfs")), os.RemoveAll(d.dir))
}

// fill writes until not one more byte fits and returns the bytes written.
func (d *disk) fill() (int64, error) {
	f, err := os.OpenFile(filepath.Join(d.mount, "filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			return 0, nil
		}
		return 0, err
	}
	defer f.Close()
	var total int64
	for size := 1 << 20; size > 0; {
		n, err := f.Write(make([]byte, size))
		total += int64(n)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return total, err
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return total, err
	}
	return total, nil
}

func (d *disk) free() error { return os.Remove(filepath.Join(d.mount, "filler")) }

// used is what the database occupies, holes not counted, in bytes.
func used(dir string) int64 {
	var total int64
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			total += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return total
}
