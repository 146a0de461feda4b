package stepca

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/keybox"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver. Every step looks before it writes, so that a run after a killed one goes on where
// that one ended. A root that cannot be used is a permanent error unless the spec carries the consent to a new one.
func (Driver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.StepCA, _ plan.Delta) error {
	l := layout(s.Dir)
	user, err := h.Lookup(s.User, "")
	if err != nil {
		return fmt.Errorf("the authority's user %s: %w", s.User, err)
	}
	root, err := ensureRoot(h, l, s, a.Scope())
	if err != nil {
		return err
	}
	if err := ensureNext(h, l, s, root); err != nil {
		return err
	}
	if err := ownNames(l, s, root.cert); err != nil {
		return err
	}
	intermediate, err := ensureIntermediate(h, l, s, root)
	if err != nil {
		return err
	}
	for path, certs := range map[string][]*x509.Certificate{l.rootCopy(): offered(h, l, s, root),
		l.intermediateCopy(): {intermediate}} {
		if err := ensureFile(h, path, encodeCerts(certs), 0o755, 0o644); err != nil {
			return err
		}
	}
	if err := dropGone(h, l, s); err != nil {
		return err
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

// ensureRoot gives the usable root of a container's CA, or makes the first one.
func ensureRoot(h host.Host, l layout, s spec.StepCA, container string) (pair, error) {
	root, err := readPair(h, l.root())
	state := rootState(root, err, h.Now())
	if _, due := successor(h, l, s, root); due {
		if err := succeed(h, l); err != nil {
			return pair{}, err
		}
		root, err = readPair(h, l.root())
		state = rootState(root, err, h.Now())
	}
	if state == rootUsable {
		return root, ensurePassword(h, l.root(), s, root)
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
	if err := mayMint(l, s, state, container); err != nil {
		return pair{}, err
	}
	if err := setAside(h, l, l.root()); err != nil {
		return pair{}, err
	}
	if root, err = mintRoot(h, l, s); err != nil {
		return pair{}, err
	}
	return root, putPair(h, l.root(), root)
}

// mayMint is nil where a person wants a root made. state is why the one that was here cannot be used; empty: there
// never was one.
func mayMint(l layout, s spec.StepCA, state, container string) error {
	switch {
	case s.NewRoot || state == "" && s.FirstRoot:
		return nil
	case state == "":
		return provider.PermanentHint(fmt.Errorf("%s holds no root CA, and only a person may have the first one made",
			l.root()),
			fmt.Sprintf("phoenix create %s (or phoenix up) makes the first root of a new site; where there was one, "+
				"phoenix ca restore FILE --password-file FILE brings it back from a backup", container))
	}
	return provider.PermanentHint(fmt.Errorf("the root in %s cannot be used: %s", l.root(), state),
		fmt.Sprintf("phoenix ca restore FILE --password-file FILE brings the same root back from a backup: every "+
			"client goes on trusting it; "+
			"without a backup, phoenix create %s --new-root makes another one, which every client must then be given",
			container))
}

// putPair writes a pair with a fresh password into a directory beside dir and renames it. dir must not be there, or be
// empty.
func putPair(h host.Host, dir string, p pair) error {
	staging := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir))
	if err := h.RemoveAll(staging); err != nil {
		return err
	}
	if err := h.MkdirAll(staging, 0o700, host.Root); err != nil {
		return err
	}
	password := keybox.NewPassword()
	key, err := keybox.Seal(p.key, password)
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

// ensureIntermediate gives a good intermediate. Where only the certificate is wrong it keeps the key and issues again;
// not under another root, nor a key that others may know.
func ensureIntermediate(h host.Host, l layout, s spec.StepCA, root pair) (*x509.Certificate, error) {
	have, err := readPair(h, l.intermediate())
	if err == nil && intermediateFault(s, root.cert, have.cert, h.Now()) == "" {
		return have.cert, nil
	}
	if next, err := readPair(h, l.nextIntermediate()); err == nil &&
		intermediateFault(s, root.cert, next.cert, h.Now()) == "" {
		if err := h.RemoveAll(l.intermediate()); err != nil {
			return nil, err
		}
		return next.cert, h.Rename(l.nextIntermediate(), l.intermediate())
	}
	if err != nil || have.cert.CheckSignatureFrom(root.cert) != nil || exposed(s, have.cert) {
		return replaceIntermediate(h, l.intermediate(), s, root)
	}
	cert, err := mintIntermediate(s, root, have.key, h.Now())
	if err != nil {
		return nil, err
	}
	return cert, h.WriteFile(filepath.Join(l.intermediate(), fileCert), encodeCert(cert), 0o600, host.Root)
}

// replaceIntermediate makes an intermediate with a key of its own in dir.
func replaceIntermediate(h host.Host, dir string, s spec.StepCA, root pair) (*x509.Certificate, error) {
	var key *ecdsa.PrivateKey
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := mintIntermediate(s, root, key, h.Now())
	if err != nil {
		return nil, err
	}
	if err := h.RemoveAll(dir); err != nil {
		return nil, err
	}
	return cert, putPair(h, dir, pair{cert: cert, key: key})
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
	list, err := present(h, l, user)
	if err != nil {
		return err
	}
	for _, w := range list {
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
	if w.directory != m.Mode.IsDir() || !w.directory && !m.Mode.IsRegular() {
		return provider.PermanentHint(fmt.Errorf("%s is a %s, not a %s", w.path, describe(m), kindOf(w.directory)),
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
