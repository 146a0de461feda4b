package stepca

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// entry is a file or directory with the owner and mode it should have.
type entry struct {
	path      string
	directory bool
	mode      fs.FileMode
	owner     host.Owner
}

// String is the wish as people read it.
func (e entry) String() string {
	return fmt.Sprintf("%s %04o %d:%d", kindOf(e.directory), e.mode, e.owner.UID, e.owner.GID)
}

func (e entry) is(m host.Meta) bool {
	return m.Mode.IsDir() == e.directory && (e.directory || m.Mode.IsRegular()) && m.Mode.Perm() == e.mode &&
		m.UID == e.owner.UID && m.GID == e.owner.GID
}

func describe(m host.Meta) string {
	kind := kindOf(m.Mode.IsDir())
	if m.Mode&fs.ModeSymlink != 0 {
		kind = "symbolic link"
	}
	return fmt.Sprintf("%s %04o %d:%d", kind, m.Mode.Perm(), m.UID, m.GID)
}

func kindOf(directory bool) string {
	if directory {
		return "folder"
	}
	return "file"
}

// wanted is every entry whose owner and mode are kept, directories before what is in them. The volume's own directory
// is the volume's business.
func wanted(l layout, user host.Owner) []entry {
	list := []entry{{l.secrets(), true, 0o700, host.Root}}
	list = append(list, pairEntries(l.root(), l.intermediate())...)
	return append(list,
		entry{l.certs(), true, 0o755, host.Root},
		entry{l.rootCopy(), false, 0o644, host.Root},
		entry{l.intermediateCopy(), false, 0o644, host.Root},
		entry{l.configDir(), true, 0o700, host.Root},
		entry{l.config(), false, 0o600, host.Root},
		entry{l.db(), true, 0o700, user})
}

func pairEntries(dirs ...string) (list []entry) {
	for _, dir := range dirs {
		list = append(list, entry{dir, true, 0o700, host.Root},
			entry{filepath.Join(dir, fileCert), false, 0o600, host.Root},
			entry{filepath.Join(dir, fileKey), false, 0o600, host.Root},
			entry{filepath.Join(dir, filePassword), false, 0o400, host.Root})
	}
	return list
}

// present is wanted, and what a rotation has put beside.
func present(h host.Host, l layout, user host.Owner) ([]entry, error) {
	beside, err := l.beside(h)
	if err != nil {
		return nil, err
	}
	return append(wanted(l, user), pairEntries(beside...)...), nil
}

// extra is something that is removed (chown nil) or given to its owner.
type extra struct {
	path, have, want string
	chown            *host.Owner
}

// extras finds what a killed process left (names with a leading dot) and files of the database that are not the user's,
// as after a restore. Their modes do not matter in a closed directory, and changing them would follow a link the user
// planted.
func extras(h host.Host, l layout, user host.Owner) ([]extra, error) {
	var out []extra
	for _, dir := range []string{l.secrets(), l.root(), l.intermediate(), l.certs(), l.configDir()} {
		names, err := h.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, n := range names {
			if strings.HasPrefix(n, ".") {
				out = append(out, extra{path: filepath.Join(dir, n), have: "left by an interrupted run",
					want: rootAbsent})
			}
		}
	}
	names, err := h.ReadDir(l.db())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, n := range names {
		path := filepath.Join(l.db(), n)
		m, err := h.Lstat(path)
		if err == nil && (m.UID != user.UID || m.GID != user.GID) {
			out = append(out, extra{path, describe(m), fmt.Sprintf("owned by %d:%d", user.UID, user.GID), &user})
		}
	}
	return out, nil
}
