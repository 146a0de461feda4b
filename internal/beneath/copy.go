package beneath

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CopyOptions say how a tree is copied.
type CopyOptions struct {
	// Closed copies belong to root and are open to nobody else.
	Closed bool
	// Update leaves files alone that are there and not older.
	Update bool
}

// Copied is what Copy did.
type Copied struct {
	Files   int
	Bytes   int64
	Skipped []string // sockets, devices, and what was exchanged under the copy's hands
}

const (
	deepest   = 512
	skipsKept = 16
)

// Copy copies what is in a directory into another one, which is made where it is missing: files, directories and
// links as links, with owners, modes, times, extended attributes and hard links. Links in the source are never
// followed.
func Copy(from, to string, o CopyOptions) (Copied, error) {
	source, err := Open(from)
	if err != nil {
		return Copied{}, err
	}
	defer source.Close()
	parent, err := Open(filepath.Dir(to))
	if err != nil {
		return Copied{}, err
	}
	defer parent.Close()
	c := &copier{o: o, seen: map[inode]string{}}
	if err := unix.Mkdirat(int(parent.Fd()), filepath.Base(to), 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return Copied{}, failed("mkdir", to, err)
	}
	fd, err := openat(int(parent.Fd()), filepath.Base(to), readDirectory, false)
	if err != nil {
		return Copied{}, failed("open", to, err)
	}
	target := os.NewFile(uintptr(fd), to)
	defer target.Close()
	c.top = target
	if err := c.all(source, target, "", 0); err != nil {
		return c.done, err
	}
	return c.done, unix.Syncfs(fd)
}

type inode struct{ dev, ino uint64 }

type copier struct {
	o    CopyOptions
	top  *os.File
	seen map[inode]string // files with several names: where the first is, below top
	done Copied
}

// all copies what is in a directory, and then what the directory itself is like.
func (c *copier) all(source, target *os.File, path string, depth int) error {
	if depth > deepest {
		return failed("copy", source.Name(), fmt.Errorf("is nested more than %d deep", deepest))
	}
	for {
		names, err := source.Readdirnames(batch)
		for _, name := range names {
			if err := c.name(source, target, name, filepath.Join(path, name), depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
			break
		}
		if err != nil {
			return failed("copy", source.Name(), err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &st); err != nil {
		return failed("copy", source.Name(), err)
	}
	return c.like(source, target, st)
}

func (c *copier) skip(path string) {
	if len(c.done.Skipped) < skipsKept {
		c.done.Skipped = append(c.done.Skipped, path)
	}
}

func (c *copier) name(source, target *os.File, name, path string, depth int) error {
	var err error
	for range attempts {
		var st unix.Stat_t
		if st, err = lstatat(int(source.Fd()), name); errors.Is(err, unix.ENOENT) {
			return nil // it lives
		}
		if err != nil {
			break
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = c.directory(source, target, name, path, depth)
		case unix.S_IFREG:
			err = c.file(source, target, name, path)
		case unix.S_IFLNK:
			err = c.link(source, target, name, st)
		case unix.S_IFIFO:
			if err = unix.Mkfifoat(int(target.Fd()), name, st.Mode&0o700); errors.Is(err, unix.EEXIST) {
				err = nil
			}
		default:
			c.skip(path)
			return nil
		}
		if !moved(err) || errors.Is(err, errTarget) {
			break
		}
	}
	if moved(err) && !errors.Is(err, errTarget) {
		c.skip(path)
		return nil
	}
	if err != nil {
		return failed("copy", filepath.Join(source.Name(), name), err)
	}
	return nil
}

func (c *copier) directory(source, target *os.File, name, path string, depth int) error {
	from, err := openat(int(source.Fd()), name, readDirectory, false)
	if err != nil {
		return err
	}
	child := os.NewFile(uintptr(from), filepath.Join(source.Name(), name))
	defer child.Close()
	if err := unix.Mkdirat(int(target.Fd()), name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	to, err := openat(int(target.Fd()), name, readDirectory, false)
	if err != nil {
		return fmt.Errorf("%s is no directory: %w", filepath.Join(target.Name(), name), errors.Join(errTarget, err))
	}
	made := os.NewFile(uintptr(to), filepath.Join(target.Name(), name))
	defer made.Close()
	return c.all(child, made, path, depth+1)
}

// errTarget keeps a fault of the target's from being taken for one that the source's owner made.
var errTarget = errors.New("it stands in the way")

const unfinished = ".phoenix-copy"

func (c *copier) file(source, target *os.File, name, path string) error {
	fd, err := openat(int(source.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK, false)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(fd), filepath.Join(source.Name(), name))
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.ELOOP // exchanged meanwhile: it is looked at again
	}
	if have, err := lstatat(int(target.Fd()), name); err == nil && c.o.Update && !older(have, st) {
		return nil
	}
	if first, again := c.seen[inode{uint64(st.Dev), st.Ino}]; again && c.sameAs(first, target, name) == nil {
		return nil
	}
	if err := c.content(from, target, name, st); err != nil {
		return errors.Join(errTarget, err)
	}
	if st.Nlink > 1 {
		c.seen[inode{uint64(st.Dev), st.Ino}] = path
	}
	c.done.Files++
	return nil
}

func older(have, than unix.Stat_t) bool {
	return have.Mode&unix.S_IFMT != unix.S_IFREG || have.Mtim.Sec < than.Mtim.Sec ||
		have.Mtim.Sec == than.Mtim.Sec && have.Mtim.Nsec < than.Mtim.Nsec
}

// sameAs gives a file that was copied a second name.
func (c *copier) sameAs(first string, target *os.File, name string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(c.top.Fd()), first, &how)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_ = unix.Unlinkat(int(target.Fd()), name, 0) // an older one; the next says if it is in the way
	return unix.Linkat(fd, "", int(target.Fd()), name, unix.AT_EMPTY_PATH)
}

// content writes a file beside its name and puts it there when it is complete.
func (c *copier) content(from, target *os.File, name string, st unix.Stat_t) error {
	dir := int(target.Fd())
	if err := unix.Unlinkat(dir, unfinished, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	fd, err := unix.Openat(dir, unfinished, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), filepath.Join(target.Name(), name))
	defer to.Close()
	if unix.IoctlFileClone(fd, int(from.Fd())) != nil { // not on this file system, or not between these two
		if err := c.bytes(from, to, st.Size); err != nil {
			return err
		}
	}
	if err := c.like(from, to, st); err != nil {
		return err
	}
	return unix.Renameat(dir, unfinished, dir, name)
}

func (c *copier) bytes(from, to *os.File, size int64) error {
	err := extents(from, func(start, end int64) error {
		if _, err := to.Seek(start, io.SeekStart); err != nil {
			return err
		}
		n, err := io.Copy(to, part(from, start, end))
		c.done.Bytes += n
		return err
	})
	if err != nil {
		return err
	}
	return to.Truncate(size) // a hole at the end
}

// like gives a copy the owner, mode, attributes and times of what it is a copy of.
func (c *copier) like(from, to *os.File, st unix.Stat_t) error {
	uid, gid, mode := int(st.Uid), int(st.Gid), st.Mode&0o7777
	if c.o.Closed {
		uid, gid, mode = 0, 0, 0o600
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			mode = 0o700
		}
	}
	fd := int(to.Fd())
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode); err != nil { // after: a change of owner takes setuid away
		return err
	}
	if !c.o.Closed {
		if err := attributes(int(from.Fd()), fd); err != nil {
			return err
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
}

func (c *copier) link(source, target *os.File, name string, st unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(source.Fd()), name, buf)
	if errors.Is(err, unix.EINVAL) { // it is none any more
		return unix.ELOOP
	}
	if err != nil {
		return err
	}
	dir := int(target.Fd())
	if have, err := lstatat(dir, name); err == nil {
		if c.o.Update && have.Mode&unix.S_IFMT != unix.S_IFDIR || have.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		if err := unix.Unlinkat(dir, name, 0); err != nil {
			return errors.Join(errTarget, err)
		}
	}
	if err := unix.Symlinkat(string(buf[:n]), dir, name); err != nil {
		return errors.Join(errTarget, err)
	}
	if c.o.Closed {
		return nil
	}
	return unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
}
