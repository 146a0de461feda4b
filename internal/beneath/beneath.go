// Package beneath walks, empties, copies and removes directory trees that somebody else may change meanwhile: what is
// in a volume or a root file system is in the hands of its container's root. Everything is reached by descriptors,
// one name at a time, so that a link that is put in the way leads nowhere: it is removed, or copied, as a link.
package beneath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	batch      = 512 // names that are read at once: a directory may have millions
	attempts   = 64  // to get hold of a name that is exchanged again and again
	linksLimit = 40  // as the kernel: path_resolution(7)
)

// errBusy is a directory that somebody changes faster than it can be worked on.
var errBusy = errors.New("is being changed by somebody else")

// Open opens a directory by its path. Links on the way are followed only where nobody but root could have made them.
func Open(path string) (*os.File, error) { return open(path, unix.O_RDONLY) }

func open(path string, flags int) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, failed("open", path, errors.New("is not an absolute path"))
	}
	w := &way{path: path, at: -1}
	defer w.close()
	if err := w.root(); err != nil {
		return nil, err
	}
	for w.todo = parts(path); len(w.todo) > 0; {
		if err := w.step(); err != nil {
			return nil, failed("open", path, err)
		}
	}
	fd, err := unix.Openat(w.at, ".", flags|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, failed("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// way is how far a path was gone.
type way struct {
	path  string
	at    int // the directory that was reached; -1: none
	todo  []string
	links int
}

func (w *way) close() {
	if w.at >= 0 {
		_ = unix.Close(w.at) // of no data
	}
}

func (w *way) reach(fd int) {
	w.close()
	w.at = fd
}

func (w *way) root() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", "/", err)
	}
	w.reach(fd)
	return nil
}

// step goes on by one name.
func (w *way) step() error {
	name := w.todo[0]
	w.todo = w.todo[1:]
	next, err := unix.Openat(w.at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(next, &st); err != nil {
		unix.Close(next)
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		w.reach(next)
		return nil
	}
	target, err := trusted(w.at, next, st)
	unix.Close(next)
	if err != nil {
		return err
	}
	if w.links++; w.links > linksLimit {
		return unix.ELOOP
	}
	w.todo = append(parts(target), w.todo...)
	if filepath.IsAbs(target) {
		return w.root()
	}
	return nil
}

func parts(path string) []string {
	var out []string
	for _, p := range strings.Split(path, "/") {
		if p != "" && p != "." {
			out = append(out, p)
		}
	}
	return out
}

// trusted reads a link in the directory dir that root made where nobody else can make one in its place.
func trusted(dir, link int, st unix.Stat_t) (string, error) {
	var above unix.Stat_t
	if err := unix.Fstat(dir, &above); err != nil {
		return "", err
	}
	ours := func(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }
	if !ours(st.Uid) || !ours(above.Uid) || above.Mode&0o022 != 0 && above.Mode&unix.S_ISVTX == 0 {
		return "", errors.New("is reached over a symbolic link that others could have made")
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", buf)
	return string(buf[:max(n, 0)]), err
}

func failed(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

// openat opens one name in a directory. A link is never followed, and with within nothing is entered that is mounted
// there.
func openat(dir int, name string, flags int, within bool) (int, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return -1, unix.EINVAL
	}
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	if within {
		how.Resolve |= unix.RESOLVE_NO_XDEV
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // something was renamed meanwhile
			continue
		case errors.Is(err, unix.ENOSYS): // where a filter keeps it away: for one name without links this is the same
			return openPlain(dir, name, flags, within)
		}
		return fd, err
	}
}

func openPlain(dir int, name string, flags int, within bool) (int, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil || !within {
		return fd, err
	}
	var above, st unix.Stat_t
	if err := errors.Join(unix.Fstat(dir, &above), unix.Fstat(fd, &st)); err != nil || above.Dev != st.Dev {
		unix.Close(fd)
		return -1, errors.Join(err, unix.EXDEV)
	}
	return fd, nil
}

const readDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NONBLOCK

// lstatat is what stands at a name now. It may be something else a moment later.
func lstatat(dir int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// moved tells whether a name was found to be something else than a moment ago.
func moved(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EISDIR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// mountedThere says what to do about what is mounted inside of a tree.
func mountedThere(path string) error {
	why := "something is mounted there, and is not touched: unmount it first"
	return failed("remove", path, fmt.Errorf("%s: %w", why, unix.EXDEV))
}

// Descriptor is the path that an open descriptor has, for calls that take paths only.
func Descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// ModeBits are a mode's bits as the kernel has them.
func ModeBits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	special := map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID,
		fs.ModeSticky: unix.S_ISVTX}
	for bit, kernel := range special {
		if m&bit != 0 {
			bits |= kernel
		}
	}
	return bits
}
