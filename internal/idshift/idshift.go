// Package idshift moves the files of a tree from one range of user and group ids to another, as a container's root file
// system and volumes need it that get a range of their own.
//
// What is in the tree is hostile: a container's root made it. So names are opened one by one relative to their
// directory, no link is followed, no mount is crossed, nothing but metadata is touched (no file is opened for reading,
// no device, no fifo), and neither depth nor number of names costs memory or descriptors without a limit. The container
// must not run meanwhile.
//
// Kept are: hard links, modes with setuid, setgid and sticky, file capabilities (whose version 3 names the container's
// root by its id outside), POSIX ACLs (whose qualifiers are ids), all other attributes, and ids that are in none of the
// ranges.
//
// A walk that is killed anywhere and run again ends the same: an id that was moved is in no range that is moved from.
// Changing an owner makes the kernel drop setuid and capabilities; they are written down on the file itself (Attribute)
// before, and come back from there.
package idshift

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"golang.org/x/sys/unix"
)

// Attribute holds, while a file changes hands, its mode and its capability. The trusted namespace is out of a
// container's reach.
const Attribute = "trusted.phoenix.shift"

// Range is Count ids from Base on.
type Range struct{ Base, Count int }

// Has is whether an id is in the range.
func (r Range) Has(id int) bool { return id >= r.Base && id-r.Base < r.Count }

func (r Range) overlaps(o Range) bool { return r.Base < o.Base+o.Count && o.Base < r.Base+r.Count }

func (r Range) valid() bool {
	return r.Base >= 0 && r.Count > 0 && r.Base < math.MaxUint32 && r.Count <= math.MaxUint32-r.Base
}

// String is as in subuid(5): base:count.
func (r Range) String() string { return fmt.Sprintf("%d:%d", r.Base, r.Count) }

// Move is from where to where: the n-th id of any range in From becomes the n-th of To.
type Move struct {
	From []Range
	To   Range
}

func (m Move) check() error {
	if !m.To.valid() {
		return fmt.Errorf("%s is no range of ids", m.To)
	}
	for i, f := range m.From {
		switch {
		case !f.valid() || f.Count > m.To.Count:
			return fmt.Errorf("the ids %s do not fit into %s", f, m.To)
		case f.overlaps(m.To):
			return fmt.Errorf("the ids %s overlap with %s", f, m.To)
		}
		for _, o := range m.From[:i] {
			if f.overlaps(o) {
				return fmt.Errorf("the ids %s overlap with %s", f, o)
			}
		}
	}
	return nil
}

// id is what becomes of one.
func (m Move) id(old uint32) uint32 {
	for _, f := range m.From {
		if f.Has(int(old)) {
			return uint32(int(old) - f.Base + m.To.Base)
		}
	}
	return old
}

// Result is what a walk did.
type Result struct {
	Names   int      // that were looked at
	Changed int      // inodes of which something was changed
	Mounts  []string // the first of the mount points in the tree, which stay as they are
}

// Tree moves all that is in the directory at path, and then the directory itself: its owner tells that a walk came to
// its end.
func Tree(ctx context.Context, path string, m Move) (Result, error) {
	if err := m.check(); err != nil {
		return Result{}, &fs.PathError{Op: "move ids", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Result{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	w := &walk{ctx: ctx, move: m, top: path, buf: make([]byte, bufferSize)}
	if err := w.below(fd); err != nil {
		return w.result, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.result, w.failed("stat", "", err)
	}
	w.result.Names++
	return w.result, w.one(fd, &st, "")
}

// walk is one under way. One goroutine: two that meet at a hard link would undo each other's capability.
type walk struct {
	ctx    context.Context
	move   Move
	top    string
	result Result
	buf    []byte    // of entries
	names  [512]byte // of attributes
	stack  []level
	// step is called before each single change; tests end a walk with it.
	step func(what string) error
}

func (w *walk) failed(op, name string, err error) error {
	path := w.top
	for _, l := range w.stack[:min(len(w.stack), namedLevels)] {
		path += "/" + l.name
	}
	if len(w.stack) > namedLevels {
		path += "/..."
	}
	if name != "" {
		path += "/" + name
	}
	return &fs.PathError{Op: op, Path: fmt.Sprintf("%.400q", path), Err: err}
}

func (w *walk) about(what string) error {
	if w.step == nil {
		return nil
	}
	return w.step(what)
}

// one moves what is open as fd.
func (w *walk) one(fd int, st *unix.Stat_t, name string) error {
	f := file{w: w, fd: fd, st: st}
	if err := f.moveIDs(); err != nil {
		return w.failed("move the ids of", name, err)
	}
	if f.changed {
		w.result.Changed++
	}
	return nil
}

// vanished is what happens to names that go away under the walk; a container that does not run makes none.
func vanished(err error) bool { return errors.Is(err, unix.ENOENT) }
