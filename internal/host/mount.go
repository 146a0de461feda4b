package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// MountInto changes: it shows the directory source of this host at target inside the mount namespace of a process, as a
// start of its container would. target must be there; no part of it may be a link, for what is in there is in the
// container's hands. The calling thread does not come back: this is for a process that ends soon.
func MountInto(pid int, source, target string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	defer unix.Close(tree)
	if err := enterMounts(pid); err != nil {
		return err
	}
	at, err := openPlain(target)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if err := unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// UnmountFrom changes: it takes what is mounted at target out of the mount namespace of a process. Files that are open
// stay so. As with MountInto the calling thread does not come back.
func UnmountFrom(pid int, target string) error {
	if err := enterMounts(pid); err != nil {
		return err
	}
	at, err := openPlain(target)
	if err != nil {
		return err
	}
	unix.Close(at)
	if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return &os.PathError{Op: "umount", Path: target, Err: err}
	}
	return nil
}

// enterMounts brings this thread alone into the mount namespace of a process.
func enterMounts(pid int) error {
	runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	path := filepath.Join("/proc", strconv.Itoa(pid), "ns", "mnt")
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return &os.PathError{Op: "setns", Path: path, Err: err}
	}
	return nil
}

// openPlain opens a directory that is reached over no link.
func openPlain(path string) (int, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}
