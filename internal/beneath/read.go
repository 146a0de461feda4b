package beneath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Entry is a directory or a regular file below one that is read.
type Entry struct {
	Path  string // below the directory
	IsDir bool
	Size  int64
	Data  []byte // of a file that is not larger than the limit
}

// Limits bound what Read takes in.
type Limits struct {
	Depth   int   // how deep directories are entered
	Size    int64 // of a file whose content is read
	Entries int   // all names together
}

// Read visits the directories and files below a directory, sorted by name. A directory is entered where visit says
// so. Links are passed over, and so is what was exchanged for one meanwhile.
func Read(path string, l Limits, visit func(Entry) (enter bool)) error {
	dir, err := Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	r := &reader{l: l, visit: visit}
	return r.all(dir, "", l.Depth)
}

type reader struct {
	l     Limits
	visit func(Entry) bool
	seen  int
}

func (r *reader) all(dir *os.File, path string, depth int) error {
	names, err := r.names(dir)
	for _, name := range names {
		if err := r.name(dir, name, filepath.Join(path, name), depth); err != nil {
			return err
		}
	}
	return err
}

// names are those of a directory, as many as the limit still allows.
func (r *reader) names(dir *os.File) ([]string, error) {
	var out []string
	for {
		names, err := dir.Readdirnames(batch)
		out = append(out, names...)
		if r.seen += len(names); r.seen > r.l.Entries {
			return nil, failed("read", dir.Name(), fmt.Errorf("has more than %d entries", r.l.Entries))
		}
		if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
			slices.Sort(out)
			return out, nil
		}
		if err != nil {
			return nil, failed("read", dir.Name(), err)
		}
	}
}

func (r *reader) name(dir *os.File, name, path string, depth int) error {
	st, err := lstatat(int(dir.Fd()), name)
	if err == nil {
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = r.directory(dir, name, path, depth)
		case unix.S_IFREG:
			err = r.file(dir, name, path)
		}
	}
	if moved(err) {
		return nil // it lives
	}
	return err
}

func (r *reader) directory(dir *os.File, name, path string, depth int) error {
	if !r.visit(Entry{Path: path, IsDir: true}) || depth <= 0 {
		return nil
	}
	fd, err := openat(int(dir.Fd()), name, readDirectory, false)
	if err != nil {
		return reading(dir, name, err)
	}
	child := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name))
	defer child.Close()
	return r.all(child, path, depth-1)
}

func (r *reader) file(dir *os.File, name, path string) error {
	fd, err := openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK, false)
	if err != nil {
		return reading(dir, name, err)
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name))
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return reading(dir, name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	e := Entry{Path: path, Size: st.Size}
	if st.Size <= r.l.Size {
		if e.Data, err = io.ReadAll(io.LimitReader(f, r.l.Size+1)); err != nil {
			return reading(dir, name, err)
		}
		e.Size = max(e.Size, int64(len(e.Data))) // it may have grown
		if e.Size > r.l.Size {
			e.Data = nil
		}
	}
	r.visit(e)
	return nil
}

func reading(dir *os.File, name string, err error) error {
	return failed("read", filepath.Join(dir.Name(), name), err)
}

// Lstat is what stands at a path below a directory: no link is followed on the way, nor at its end.
func Lstat(dir, path string) (mode fs.FileMode, uid int, err error) {
	at, err := Open(dir)
	if err != nil {
		return 0, 0, err
	}
	defer at.Close()
	list := parts(path)
	for _, name := range list[:max(0, len(list)-1)] {
		fd, err := openat(int(at.Fd()), name, unix.O_PATH|unix.O_DIRECTORY, false)
		if err != nil {
			return 0, 0, failed("lstat", filepath.Join(dir, path), err)
		}
		next := os.NewFile(uintptr(fd), filepath.Join(at.Name(), name))
		_ = at.Close() // of no data
		at = next
		defer next.Close()
	}
	if len(list) == 0 || list[len(list)-1] == ".." {
		return 0, 0, failed("lstat", filepath.Join(dir, path), unix.EINVAL)
	}
	st, err := lstatat(int(at.Fd()), list[len(list)-1])
	if err != nil {
		return 0, 0, failed("lstat", filepath.Join(dir, path), err)
	}
	return fs.FileMode(st.Mode & 0o777), int(st.Uid), nil
}
