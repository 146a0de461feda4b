package beneath

import (
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// levels is how deep a tree is walked; what is deeper is brought up first, so that nobody can nest deeper than there
// are descriptors.
const levels = 128

// remover empties trees.
type remover struct {
	top       int  // what is too deep is moved here
	overwrite bool // the content of files, first
	within    bool // what is mounted there is left, and an error
	deep      int  // how many were
	report    Report
	names     map[inode]string // names that went while their file has others
}

// Report is what was done.
type Report struct {
	Files     int      // overwritten
	Bytes     int64    // of them
	Removed   int      // names
	Elsewhere []string // names of files that have another one outside, and were not overwritten
}

// RemoveAll removes a file or a tree. What is mounted in it is an error, and is not touched. Nothing there is no
// error.
func RemoveAll(path string) error {
	if path == "" {
		return nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if abs == "/" {
		return failed("remove", path, errors.New("is the root of everything"))
	}
	parent, err := open(filepath.Dir(abs), unix.O_PATH)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	r := &remover{top: -1, within: true}
	return r.name(int(parent.Fd()), filepath.Base(abs), filepath.Dir(abs), 0)
}

// Wipe writes over all files below a directory and removes what is in it; the directory stays. What is mounted there
// is an error. A file that has another name outside of the directory is not written over: it may be anybody's. Its
// name goes, and is reported.
func Wipe(path string) (Report, error) {
	dir, err := Open(path)
	if err != nil {
		return Report{}, err
	}
	defer dir.Close()
	r := &remover{top: int(dir.Fd()), overwrite: true, within: true, names: map[inode]string{}}
	err = r.all(dir, path, 0)
	r.report.Elsewhere = slices.Sorted(maps.Values(r.names))
	return r.report, errors.Join(err, unix.Syncfs(int(dir.Fd())))
}

// all removes everything in a directory, also what is added meanwhile, as long as that comes to an end.
func (r *remover) all(dir *os.File, path string, depth int) error {
	if r.top < 0 {
		r.top = int(dir.Fd())
		defer func() { r.top = -1 }()
	}
	for left := attempts; left > 0; left-- {
		deep := r.deep
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		empty := true
		for {
			names, err := dir.Readdirnames(batch)
			for _, name := range names {
				empty = false
				if err := r.name(int(dir.Fd()), name, path, depth); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
				break
			}
			if err != nil {
				return err
			}
		}
		if empty {
			return nil
		}
		if r.deep > deep && r.top == int(dir.Fd()) { // more was brought up here
			left++
		}
	}
	return failed("remove", path, errBusy)
}

// name removes one name in a directory, whatever it is at that moment.
func (r *remover) name(dir int, name, path string, depth int) error {
	full := filepath.Join(path, name)
	for attempt := range attempts {
		if attempt > 1 { // somebody exchanges it; under a name that nobody knows it stays what it is
			hidden := ".phoenix-" + rand.Text()
			if err := unix.Renameat2(dir, name, dir, hidden, unix.RENAME_NOREPLACE); err == nil {
				name = hidden
			}
		}
		st, err := lstatat(dir, name)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil
		case err != nil:
			return failed("remove", full, err)
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = r.directory(dir, name, full, depth)
		case st.Mode&unix.S_IFMT == unix.S_IFREG && r.overwrite:
			err = r.file(dir, name, full)
		default:
			err = unix.Unlinkat(dir, name, 0)
		}
		switch {
		case err == nil:
			r.report.Removed++
			return nil
		case errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EBUSY):
			return mountedThere(full)
		case !moved(err) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST):
			return failed("remove", full, err)
		}
	}
	return failed("remove", full, errBusy)
}

func (r *remover) directory(dir int, name, full string, depth int) error {
	err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if depth >= levels { // it is met again at the top
		r.deep++
		return unix.Renameat2(dir, name, r.top, ".phoenix-deep-"+strconv.Itoa(r.deep), unix.RENAME_NOREPLACE)
	}
	fd, err := openat(dir, name, readDirectory, r.within)
	if err != nil {
		return err
	}
	child := os.NewFile(uintptr(fd), full)
	defer child.Close()
	if err := r.all(child, full, depth+1); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// file writes over a file and removes its name.
func (r *remover) file(dir int, name, full string) error {
	fd, err := openat(dir, name, unix.O_RDWR|unix.O_NONBLOCK, r.within)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.ELOOP // exchanged meanwhile: it is looked at again
	}
	if st.Nlink > 1 { // written over with its last name, if that is in here
		if err := unix.Unlinkat(dir, name, 0); err != nil {
			return err
		}
		r.names[inode{uint64(st.Dev), st.Ino}] = full
		return nil
	}
	n, err := overwrite(f)
	if err != nil {
		return failed("overwrite", full, err)
	}
	delete(r.names, inode{uint64(st.Dev), st.Ino})
	r.report.Files, r.report.Bytes = r.report.Files+1, r.report.Bytes+n
	return unix.Unlinkat(dir, name, 0)
}
