package idshift

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	bufferSize  = 32 << 10
	openLevels  = 64 // directories above the present one that stay open; those higher up are opened again by ".."
	namedLevels = 40 // in messages
	mountsShown = 8
)

// level is a directory that was left for one in it.
type level struct {
	fd       int    // -1: closed
	rest     []byte // entries that were read and not looked at
	offset   int64  // where reading goes on
	dev, ino uint64
	name     string // of the directory that it was left for
}

// below moves everything in the directory fd, which stays open. It is a loop: a container can nest deeper than any
// stack should be.
func (w *walk) below(fd int) error {
	defer func() {
		for i, l := range w.stack {
			if i > 0 && l.fd >= 0 {
				_ = unix.Close(l.fd) // opened for reading a directory
			}
		}
	}()
	cur, rest := fd, []byte(nil)
	defer func() {
		if cur != fd {
			_ = unix.Close(cur) // opened for reading a directory
		}
	}()
	for {
		name, more, err := w.next(cur, &rest)
		if err != nil {
			return w.failed("read", "", err)
		}
		switch {
		case more:
			child, err := w.entry(cur, name)
			if err != nil {
				return err
			}
			if child >= 0 {
				if err := w.push(cur, rest, name); err != nil {
					_ = unix.Close(child) // opened for reading a directory
					return err
				}
				cur, rest = child, nil
			}
		case len(w.stack) == 0:
			return nil
		default:
			if cur, rest, err = w.pop(cur); err != nil {
				return err
			}
		}
	}
}

// next is the next name in a directory; false: there is none.
func (w *walk) next(fd int, rest *[]byte) (string, bool, error) {
	for {
		for len(*rest) > 0 {
			name, n := entryName(*rest)
			if n == 0 {
				return "", false, unix.EIO
			}
			*rest = (*rest)[n:]
			if name != "." && name != ".." && name != "" {
				return name, true, nil
			}
		}
		if err := w.ctx.Err(); err != nil {
			return "", false, err
		}
		n, err := unix.ReadDirent(fd, w.buf)
		if err != nil || n <= 0 {
			return "", false, err
		}
		*rest = w.buf[:n]
	}
}

// entryName reads one linux_dirent64 (getdents64(2)): the name, and how long the entry is; 0: it makes no sense.
func entryName(b []byte) (string, int) {
	const head = 8 + 8 + 2 + 1
	if len(b) < head {
		return "", 0
	}
	n := int(binary.NativeEndian.Uint16(b[16:]))
	if n < head || n > len(b) {
		return "", 0
	}
	name := b[head:n]
	if i := slices.Index(name, 0); i >= 0 {
		name = name[:i]
	}
	return string(name), n
}

// entry moves one name, and opens it for reading where it is a directory to go into; -1: it is none.
func (w *walk) entry(dir int, name string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(dir, name, &how)
	switch {
	case errors.Is(err, unix.EXDEV): // a mount point
		if len(w.result.Mounts) < mountsShown {
			w.result.Mounts = append(w.result.Mounts, name)
		}
		return -1, nil
	case vanished(err):
		return -1, nil
	case err != nil:
		return -1, w.failed("open", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, w.failed("stat", name, err)
	}
	w.result.Names++
	if err := w.one(fd, &st, name); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return -1, nil
	}
	how = unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV}
	child, err := unix.Openat2(dir, name, &how)
	if err != nil {
		return -1, w.failed("open", name, err)
	}
	return child, nil
}

// push leaves a directory for one in it.
func (w *walk) push(cur int, rest []byte, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(cur, &st); err != nil {
		return w.failed("stat", "", err)
	}
	offset, err := unix.Seek(cur, 0, unix.SEEK_CUR)
	if err != nil {
		return w.failed("read", "", err)
	}
	w.stack = append(w.stack, level{fd: cur, rest: slices.Clone(rest), offset: offset, dev: uint64(st.Dev), ino: st.Ino,
		name: name})
	if i := len(w.stack) - 1 - openLevels; i > 0 { // the top is the caller's
		_ = unix.Close(w.stack[i].fd) // opened for reading a directory
		w.stack[i].fd = -1
	}
	return nil
}

// pop goes back to the directory above.
func (w *walk) pop(cur int) (int, []byte, error) {
	l := &w.stack[len(w.stack)-1]
	if l.fd < 0 {
		fd, err := w.up(cur, *l)
		if err != nil {
			return cur, nil, err
		}
		l.fd = fd
	}
	fd, rest := l.fd, l.rest
	_ = unix.Close(cur) // opened for reading a directory
	w.stack = w.stack[:len(w.stack)-1]
	return fd, rest, nil
}

// up opens the directory above, and makes sure that it is the one that was left.
func (w *walk) up(cur int, l level) (int, error) {
	fd, err := unix.Openat(cur, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, w.failed("open", "..", err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (uint64(st.Dev) != l.dev || st.Ino != l.ino) {
		err = errors.New("it was moved while its ids were")
	}
	if err == nil {
		_, err = unix.Seek(fd, l.offset, unix.SEEK_SET)
	}
	if err != nil {
		_ = unix.Close(fd) // opened for reading a directory
		return -1, w.failed("open", "..", err)
	}
	return fd, nil
}
