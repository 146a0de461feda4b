package host

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/beneath"
)

// What containers may write into is walked by descriptors: no link that is put there meanwhile leads out of it.

// Wipe changes: it writes over all files below a directory and removes what is in it. Names of files that are linked
// from elsewhere too, and so were not written over, are returned.
func Wipe(dir string) (elsewhere []string, err error) {
	report, err := beneath.Wipe(dir)
	return report.Elsewhere, err
}

// CopyTree changes: it copies a directory; a closed copy is root's alone, and an update leaves newer files as they
// are. What was not copied, since it was no file, directory or link, is returned.
func CopyTree(from, to string, closed, update bool) (skipped []string, err error) {
	done, err := beneath.Copy(from, to, beneath.CopyOptions{Closed: closed, Update: update})
	return done.Skipped, err
}

// Entry and TreeLimits are for ReadTree.
type (
	Entry      = beneath.Entry
	TreeLimits = beneath.Limits
)

// ReadTree visits the directories and files below a directory; a directory is entered where visit says so.
func ReadTree(dir string, l TreeLimits, visit func(Entry) (enter bool)) error {
	return beneath.Read(dir, l, visit)
}

// LstatIn gives mode and owner of what stands at a path below a directory, and follows no link.
func LstatIn(dir, path string) (fs.FileMode, int, error) { return beneath.Lstat(dir, path) }

// Holders tells which other processes can still reach what is in a directory.
func Holders(dir string) (string, error) {
	list, err := beneath.Holders(dir)
	var out []string
	for _, h := range list {
		out = append(out, h.String())
	}
	return strings.Join(out, "; "), err
}

// chmod changes the mode of what stands at a path now, unless that is a link.
func chmod(path string, mode fs.FileMode) error {
	wrap := func(err error) error { return &fs.PathError{Op: "chmod", Path: path, Err: err} }
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return wrap(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return wrap(errLink)
	}
	if err := unix.Chmod(beneath.Descriptor(fd), beneath.ModeBits(mode)); err != nil {
		return wrap(err)
	}
	return nil
}
