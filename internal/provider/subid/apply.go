package subid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// change is one file that gets a line.
type change struct {
	path   string // as everybody names it
	target string // the file itself: a link stays one
	before string
	after  string
	exists bool
}

// Apply implements provider.Driver. A range that is in one file only is of no use: where the second cannot be
// written, the first gets its former content back.
func (d Driver) Apply(_ context.Context, h host.Host, _ object.Address, s spec.IDMap, _ plan.Delta) error {
	var todo []change
	for _, path := range []string{d.subuid, d.subgid} {
		content, err := read(h, path)
		if err != nil {
			return d.unwritable(path, "", s, err)
		}
		if allows(content, s) {
			continue
		}
		c := change{path: path, before: content, after: added(content, s)}
		if c.target, c.exists, err = target(h, path); err != nil {
			return d.unwritable(path, "", s, err)
		}
		todo = append(todo, c)
	}
	for i, c := range todo {
		if err := h.WriteFile(c.target, []byte(c.after), 0o644, host.Root); err != nil {
			return d.unwritable(c.path, c.target, s, errors.Join(err, undo(h, todo[:i])))
		}
	}
	return nil
}

func added(content string, s spec.IDMap) string {
	if content != "" && !strings.HasSuffix(content, "\n") {
		content += "\n"
	}
	return content + line(s) + "\n"
}

// target is the file that a path leads to; a path that does not exist leads to itself.
func target(h host.Host, path string) (string, bool, error) {
	m, err := h.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, false, nil
	}
	if err != nil || m.Mode&fs.ModeSymlink == 0 {
		return path, true, err
	}
	file, err := host.Follow(h, path)
	return file, true, err
}

// undo takes the range out again that was written a moment ago, unless somebody has changed the file since.
func undo(h host.Host, done []change) error {
	for _, c := range done {
		now, err := read(h, c.target)
		switch {
		case err != nil:
			return err
		case now != c.after:
			continue
		case !c.exists:
			err = h.Remove(c.target)
		default:
			err = h.WriteFile(c.target, []byte(c.before), 0o644, host.Root)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unwritable says what cannot be written, where, and what a person can do. Trying again mends none of it, but a full
// disk.
func (d Driver) unwritable(path, file string, s spec.IDMap, err error) error {
	where := path
	if file != "" && file != path {
		where = path + ", a link to " + file + ","
	}
	told := fmt.Errorf("root cannot be given the ids %d:%d: %s cannot be written: %w", s.Base, s.Count, where, err)
	if file == "" {
		told = fmt.Errorf("root cannot be given the ids %d:%d: %s cannot be read: %w", s.Base, s.Count, path, err)
		file = path
	}
	byHand := fmt.Sprintf("the line %s must be in %s and %s", line(s), d.subuid, d.subgid)
	dir := host.Quote([]string{filepath.Dir(file)})
	switch {
	case errors.Is(err, syscall.EROFS):
		return provider.PermanentHint(told, fmt.Sprintf("%s is read-only: mount it writable (findmnt --target %s), "+
			"or have "+
			"what makes the image or the configuration of this machine add it there; %s", dir, dir, byHand))
	case errors.Is(err, syscall.EPERM):
		return provider.PermanentHint(told,
			fmt.Sprintf("lsattr -d %s %s shows what is immutable; chattr -i takes that "+
				"away; %s", host.Quote([]string{file}), dir, byHand))
	case inTheWay(err):
		return provider.PermanentHint(told, fmt.Sprintf("ls -ld %s %s shows what stands there; %s",
			host.Quote([]string{path}), dir, byHand))
	}
	return provider.WithHint(told, byHand)
}

// inTheWay tells errors that something at the path itself is the reason of.
func inTheWay(err error) bool {
	lasting := []error{fs.ErrNotExist, syscall.EACCES, syscall.ELOOP, syscall.ENOTDIR, syscall.EISDIR, syscall.EBUSY}
	return host.NotAFile(err) || slices.ContainsFunc(lasting, func(e error) bool { return errors.Is(err, e) })
}
