package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

const (
	walkDepth = 8
	walkFiles = 20000    // in one directory; where there are more it is no directory of keys
	pemLimit  = 64 << 10 // bytes; larger files are databases
	overflow  = 65534    // nobody, and every id that a user namespace does not have (user_namespaces(7))
)

// file is one file or directory below a directory that is looked through.
type file struct {
	path string
	meta host.Meta
	open bool // others get as far as here
}

// walk visits a directory and all below it; links are not followed. It tells whether it saw everything.
func walk(h host.Host, top string, visit func(file)) (whole bool, err error) {
	left := walkFiles
	whole = true
	var down func(at string, open bool, depth int) error
	down = func(at string, open bool, depth int) error {
		m, err := h.Lstat(at)
		if err != nil {
			return err
		}
		if left--; left < 0 || depth > walkDepth {
			whole = false
			return nil
		}
		visit(file{at, m, open})
		if !m.Mode.IsDir() {
			return nil
		}
		names, err := h.ReadDir(at)
		for _, name := range names {
			if err := down(path.Join(at, name), open && m.Mode.Perm()&0o001 != 0, depth+1); err != nil &&
				!errors.Is(err, fs.ErrNotExist) {
				return err // what vanished meanwhile was temporary
			}
		}
		return err
	}
	return whole, down(top, passable(h, path.Dir(top)), 0)
}

// passable reports whether others get through a directory and all above it.
func passable(h host.Host, dir string) bool {
	for ; ; dir = path.Dir(dir) {
		m, err := h.Lstat(dir)
		if err != nil || m.Mode.Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" || dir == "." {
			return true
		}
	}
}

// secretName reports whether a file's name says that it is a secret, and which.
func secretName(p string) string {
	base := strings.ToLower(path.Base(p))
	dir := strings.ToLower(path.Base(path.Dir(p)))
	has := func(suffixes ...string) bool {
		for _, s := range suffixes {
			if strings.HasSuffix(base, s) {
				return true
			}
		}
		return false
	}
	switch {
	case has(".pub", ".crt", ".cer", ".csr"):
		return ""
	case base == "acme.json":
		return "the keys of Traefik"
	case has(".key", "_key", "-key.pem", "_key.pem", ".p12", ".pfx") || base == "key" || base == "privkey.pem" ||
		base == "key.pem":
		return "a private key"
	case passwordName(base):
		return "a password"
	case (dir == "db" || dir == "database") && !has(".md", ".txt") || has("step-ca.db"):
		return "the CA's database"
	}
	return ""
}

func passwordName(base string) bool {
	base = strings.TrimSuffix(strings.ToLower(base), path.Ext(base))
	return strings.HasPrefix(base, "password") || strings.HasSuffix(base, "password") ||
		strings.HasSuffix(base, "_pass") || strings.HasSuffix(base, "passwd") || base == "pass"
}

// readable says how others can read or change a file; empty: they cannot.
func readable(f file) string {
	mode := f.meta.Mode.Perm()
	switch {
	case !f.open:
		return ""
	case mode&0o004 != 0:
		return "others can read it"
	case mode&0o002 != 0:
		return "others can change it"
	}
	return ""
}

func shown(m host.Meta) string { return fmt.Sprintf("%04o %d:%d", m.Mode.Perm(), m.UID, m.GID) }

// within reports whether child is parent or below it; both are clean and absolute.
func within(child, parent string) bool {
	return child == parent || parent == "/" || strings.HasPrefix(child, parent+"/")
}
