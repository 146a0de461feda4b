package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// mostLinks is how many symbolic links a path may lead through, as with the kernel (path_resolution(7)).
const mostLinks = 40

// Check is why root must not run the program at path; nil: it may. It and all directories that lead to it have to be
// root's, and writable by nobody else.
func Check(h host.Host, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	at, rest, links := "/", parts(path), 0
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		m, err := h.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no %s", next)
		}
		if err != nil {
			return err
		}
		if m.Mode.Type() == fs.ModeSymlink {
			if links++; links > mostLinks || m.UID != 0 {
				return fmt.Errorf("%s is a link that leads nowhere, or is not root's", next)
			}
			target, err := h.Readlink(next)
			if err != nil {
				return err
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(parts(target), rest...)
			continue
		}
		if err := safe(next, m, len(rest) > 0); err != nil {
			return err
		}
		at = next
	}
	return nil
}

func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// safe is why one part of the path may be another's.
func safe(path string, m host.Meta, directory bool) error {
	others := m.Mode.Perm()&0o022 != 0
	if m.Mode.IsDir() && m.Mode&fs.ModeSticky != 0 {
		others = false // what is root's in there nobody else renames
	}
	switch {
	case m.UID != 0:
		return fmt.Errorf("%s belongs to uid %d; root runs it only where it is root's", path, m.UID)
	case others:
		return fmt.Errorf("%s can be written by others (mode %04o); root runs it only where nobody else can", path,
			m.Mode.Perm())
	case directory && !m.Mode.IsDir():
		return fmt.Errorf("%s is no directory", path)
	case !directory && !m.Mode.IsRegular():
		return fmt.Errorf("%s is no regular file", path)
	case !directory && m.Mode.Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable (mode %04o)", path, m.Mode.Perm())
	}
	return nil
}
