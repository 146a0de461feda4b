package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Restored is what a restore did.
type Restored struct {
	Root    string // fingerprint
	Changes int    // directories that were put there, and copies that were destroyed
}

// Inspect opens a backup, checks all that is in it and tells which root it holds. Nothing is written.
func Inspect(sealed []byte, key Key) (string, error) {
	_, set, err := open(sealed, key)
	if err != nil {
		return "", err
	}
	return set.fingerprint(), nil
}

func open(sealed []byte, key Key) ([]file, verified, error) {
	packed, err := key.decrypt(sealed)
	if err != nil {
		return nil, nil, err
	}
	all, err := unpack(packed)
	if err != nil {
		return nil, nil, err
	}
	set, err := verify(all)
	if err != nil {
		return nil, nil, fmt.Errorf("the backup cannot be used: %w", err)
	}
	return all, set, nil
}

// Restore puts the secrets back below dir. With a pinned fingerprint no other root is put there, and another root
// that stands there is never replaced. Everything is checked before anything is written; what is there already stays
// as it is. Copies of the same root's keys that it, or a restore before it, moved out of the way are written over and
// removed.
func Restore(h host.Host, dir, pinned string, sealed []byte, key Key) (Restored, error) {
	all, set, err := open(sealed, key)
	if err != nil {
		return Restored{}, err
	}
	out := Restored{Root: set.fingerprint()}
	secrets := filepath.Join(dir, "secrets")
	there, err := RootIn(h, filepath.Join(secrets, rootDirectory))
	switch {
	case pinned != "" && out.Root != pinned:
		return out, fmt.Errorf("the backup holds the root sha256 %s, pinned is %s", out.Root, pinned)
	case err == nil && there != out.Root:
		return out, fmt.Errorf("the volume holds another root, sha256 %s, than the backup, %s", there, out.Root)
	}
	var differing []string
	for _, directory := range directories {
		if set[directory] != nil && !same(h, secrets, directory, all) {
			differing = append(differing, directory)
		}
	}
	for _, directory := range differing {
		if err := stage(h, secrets, directory, all); err != nil {
			return out, err
		}
	}
	for _, directory := range differing {
		if err := swap(h, secrets, directory); err != nil {
			return out, err
		}
		out.Changes++
	}
	destroyed, err := destroyCopies(h, secrets, set)
	out.Changes += destroyed
	return out, err
}

// same tells whether a directory is what the backup has.
func same(h host.Host, secrets, directory string, all []file) bool {
	for _, f := range all {
		if f.directory != directory {
			continue
		}
		path := filepath.Join(secrets, directory, f.name)
		m, err := h.Lstat(path)
		if err != nil || !m.Mode.IsRegular() {
			return false
		}
		if have, err := h.ReadFile(path); err != nil || !bytes.Equal(have, f.data) {
			return false
		}
	}
	return true
}

func staging(secrets, directory string) string { return filepath.Join(secrets, "."+directory) }

// stage writes a directory beside.
func stage(h host.Host, secrets, directory string, all []file) error {
	dir := staging(secrets, directory)
	if err := destroy(h, dir); err != nil {
		return err
	}
	if err := h.MkdirAll(dir, 0o700, host.Root); err != nil {
		return err
	}
	for _, f := range all {
		if f.directory != directory {
			continue
		}
		if err := h.WriteFile(filepath.Join(dir, f.name), f.data, f.mode, host.Root); err != nil {
			return err
		}
	}
	return nil
}

const asidePrefix = "lost-"

// swap puts a directory that was written beside in its place.
func swap(h host.Host, secrets, directory string) error {
	final := filepath.Join(secrets, directory)
	if _, err := h.Lstat(final); err == nil {
		aside := filepath.Join(secrets, asidePrefix+directory+"-"+strconv.FormatInt(h.Now().UnixNano(), 10))
		if err := h.Rename(final, aside); err != nil {
			return err
		}
	}
	return h.Rename(staging(secrets, directory), final)
}

// destroyCopies removes directories that were moved out of the way and hold keys of this root or of an intermediate of
// it, and what a restore that was killed left. What cannot be read stays, as it need not be of this root; the audit
// names it.
func destroyCopies(h host.Host, secrets string, set verified) (int, error) {
	list, err := h.ReadDir(secrets)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range list {
		path := filepath.Join(secrets, name)
		switch {
		case strings.HasPrefix(name, "."):
		case strings.HasPrefix(name, asidePrefix) && ofRoot(h, path, set):
			dying := filepath.Join(secrets, "."+name) // half of it would not tell whose it was
			if err := h.Rename(path, dying); err != nil {
				return n, err
			}
			path = dying
		default:
			continue
		}
		if err := destroy(h, path); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func ofRoot(h host.Host, dir string, set verified) bool {
	raw, err := h.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return false
	}
	cert, err := parse(raw)
	return err == nil && (cert.Equal(set[rootDirectory]) || cert.CheckSignatureFrom(set[rootDirectory]) == nil)
}

// destroy writes over the files of a directory and removes it. None is no error.
func destroy(h host.Host, dir string) error {
	m, err := h.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []string
	if err == nil && m.Mode.IsDir() {
		list, err = h.ReadDir(dir)
	}
	if err != nil {
		return err
	}
	for _, name := range list {
		path := filepath.Join(dir, name)
		if m, err := h.Lstat(path); err != nil || !m.Mode.IsRegular() {
			continue
		}
		argv := []string{"shred", "--force", "--iterations=1", "--", path}
		if _, err := h.Run(ctx(), host.Command{Argv: argv, Mutates: true, Limit: time.Minute}); err != nil {
			return err
		}
	}
	return h.RemoveAll(dir)
}
