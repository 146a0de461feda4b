package stepca

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver. Every step looks before it writes, so that a run after a killed one goes on where that
// one ended. A root that cannot be used is a permanent error unless the spec carries the consent to a new one.
func (Driver) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.StepCA, _ plan.Delta) error {
	l := layout(s.Dir)
	user, err := h.Lookup(s.User, "")
	if err != nil {
		return fmt.Errorf("the authority's user %s: %w", s.User, err)
	}
	root, err := ensureRoot(h, l, s)
	if err != nil {
		return err
	}
	intermediate, err := ensureIntermediate(h, l, s, root)
	if err != nil {
		return err
	}
	for path, c := range map[string]*x509.Certificate{l.rootCopy(): root.cert, l.intermediateCopy(): intermediate} {
		if err := ensureFile(h, path, encodeCert(c), 0o755, 0o644); err != nil {
			return err
		}
	}
	config, err := render(s)
	if err != nil {
		return err
	}
	if err := ensureFile(h, l.config(), config, 0o700, 0o600); err != nil {
		return err
	}
	if err := h.MkdirAll(l.db(), 0o700, user); err != nil {
		return err
	}
	if err := renewDatabase(ctx, h, l, s); err != nil {
		return err
	}
	return ensureModes(h, l, user)
}

// ensureRoot gives the usable root, or makes the first one.
func ensureRoot(h host.Host, l layout, s spec.StepCA) (pair, error) {
	root, err := readPair(h, l.root())
	state := rootState(root, err, h.Now())
	if state == rootUsable {
		return root, nil
	}
	if state == rootAbsent && s.Import != "" {
		old, err := oldRoot(h, s)
		if err != nil {
			return pair{}, err
		}
		return old, putPair(h, l.root(), old)
	}
	if state == rootAbsent {
		if state, err = lost(h, l, s); err != nil {
			return pair{}, err
		}
	}
	if state != "" && !s.NewRoot {
		return pair{}, provider.PermanentHint(fmt.Errorf("the root in %s cannot be used: %s", l.root(), state),
			"restore the volume from a backup; a new root has to be consented to, and every client must then learn it")
	}
	if err := setAside(h, l); err != nil {
		return pair{}, err
	}
	if root, err = mintRoot(s, h.Now()); err != nil {
		return pair{}, err
	}
	return root, putPair(h, l.root(), root)
}

// setAside keeps what is left of a root that cannot be used, for whoever may still mend it.
func setAside(h host.Host, l layout) error {
	_, err := h.Lstat(l.root())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return h.Rename(l.root(), filepath.Join(l.secrets(), "lost-root-"+strconv.FormatInt(h.Now().UnixNano(), 10)))
}

// putPair writes a pair with a fresh password into a folder beside dir and renames it. dir must not be there, or be empty.
func putPair(h host.Host, dir string, p pair) error {
	staging := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir))
	if err := h.RemoveAll(staging); err != nil {
		return err
	}
	if err := h.MkdirAll(staging, 0o700, host.Root); err != nil {
		return err
	}
	password := newPassword()
	key, err := sealKey(p.key, password)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{{filePassword, password, 0o400}, {fileKey, key, 0o600}, {fileCert, encodeCert(p.cert), 0o600}} {
		if err := h.WriteFile(filepath.Join(staging, f.name), f.data, f.mode, host.Root); err != nil {
			return err
		}
	}
	return h.Rename(staging, dir)
}

// ensureIntermediate gives a good intermediate. Where only the certificate is wrong it keeps the key and issues again.
func ensureIntermediate(h host.Host, l layout, s spec.StepCA, root pair) (*x509.Certificate, error) {
	have, err := readPair(h, l.intermediate())
	if err != nil {
		return replaceIntermediate(h, l, s, root)
	}
	if intermediateFault(s, root.cert, have.cert, h.Now()) == "" {
		return have.cert, nil
	}
	cert, err := mintIntermediate(s, root, have.key, h.Now())
	if err != nil {
		return nil, err
	}
	return cert, h.WriteFile(filepath.Join(l.intermediate(), fileCert), encodeCert(cert), 0o600, host.Root)
}

func replaceIntermediate(h host.Host, l layout, s spec.StepCA, root pair) (*x509.Certificate, error) {
	var key *ecdsa.PrivateKey
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := mintIntermediate(s, root, key, h.Now())
	if err != nil {
		return nil, err
	}
	if err := h.RemoveAll(l.intermediate()); err != nil {
		return nil, err
	}
	return cert, putPair(h, l.intermediate(), pair{cert, key})
}

// ensureFile writes a file of root's where its content differs.
func ensureFile(h host.Host, path string, data []byte, dirMode, mode fs.FileMode) error {
	if have, err := h.ReadFile(path); err == nil && string(have) == string(data) {
		return nil
	}
	if err := h.MkdirAll(filepath.Dir(path), dirMode, host.Root); err != nil {
		return err
	}
	return h.WriteFile(path, data, mode, host.Root)
}

// ensureModes repairs owners and modes and removes what interrupted runs left.
func ensureModes(h host.Host, l layout, user host.Owner) error {
	for _, w := range wanted(l, user) {
		m, err := h.Lstat(w.path)
		if err != nil {
			return err
		}
		if err := repair(h, w, m); err != nil {
			return err
		}
	}
	found, err := extras(h, l, user)
	if err != nil {
		return err
	}
	for _, e := range found {
		if e.chown != nil {
			err = h.Chown(e.path, *e.chown)
		} else {
			err = h.RemoveAll(e.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func repair(h host.Host, w entry, m host.Meta) error {
	if w.folder != m.Mode.IsDir() || !w.folder && !m.Mode.IsRegular() {
		return provider.PermanentHint(fmt.Errorf("%s is a %s, not a %s", w.path, describe(m), kindOf(w.folder)),
			"move it away; phoenix does not follow it")
	}
	if m.UID != w.owner.UID || m.GID != w.owner.GID {
		if err := h.Chown(w.path, w.owner); err != nil {
			return err
		}
	}
	if m.Mode.Perm() != w.mode {
		return h.Chmod(w.path, w.mode)
	}
	return nil
}
