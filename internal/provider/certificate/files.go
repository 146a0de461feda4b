package certificate

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const (
	current   = "current"    // link to the version in use
	reloadDue = "reload-due" // stands from before the switch until the reload is done
	certFile  = "cert.pem"
	keyFile   = "key.pem"
)

// layout knows where the files of one certificate are.
type layout struct {
	certPath, keyPath string
	versions          string
}

func layoutOf(s spec.Certificate) layout {
	return layout{certPath: s.CertPath, keyPath: s.KeyPath, versions: s.KeyPath + ".d"}
}

func (l layout) version(id string) string { return filepath.Join(l.versions, id) }

func (l layout) marker() string { return filepath.Join(l.versions, reloadDue) }

// links are the paths people use and what each must point to.
func (l layout) links() map[string]string {
	return map[string]string{
		l.keyPath:  relative(l.keyPath, filepath.Join(l.versions, current, keyFile)),
		l.certPath: relative(l.certPath, filepath.Join(l.versions, current, certFile)),
	}
}

// relative keeps links right when the volume is looked at from the hypervisor.
func relative(from, to string) string {
	rel, err := filepath.Rel(filepath.Dir(from), to)
	if err != nil {
		return to
	}
	return rel
}

// versionID names a version after its key.
func versionID(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8]), nil
}

// owners are who holds the files, and the mode of directories that are theirs alone.
type owners struct {
	owner     host.Owner
	directory fs.FileMode
}

func ownersOf(h host.Host, s spec.Certificate) (owners, error) {
	o, err := h.Lookup(s.Owner, s.Group)
	if err != nil {
		return owners{}, err
	}
	directory := fs.FileMode(0o700)
	if s.Mode&0o040 != 0 {
		directory = 0o750
	}
	return owners{owner: o, directory: directory}, nil
}

// stage makes a version's directory with the new key in it, before the CA is asked: a full disk is found out at no
// cost.
func (l layout) stage(h host.Host, s spec.Certificate, o owners, id string, keyPEM []byte) error {
	if err := h.MkdirAll(l.version(id), o.directory, o.owner); err != nil {
		return err
	}
	return h.WriteFile(filepath.Join(l.version(id), keyFile), keyPEM, s.Mode.Perm(), o.owner)
}

// place puts a staged version in use. The pair that was in use before stays whole until the one rename that replaces
// it.
func (l layout) place(h host.Host, s spec.Certificate, o owners, id string, chain []byte) error {
	if err := h.WriteFile(filepath.Join(l.version(id), certFile), chain, certMode, o.owner); err != nil {
		return err
	}
	if err := l.adopt(h, s, o); err != nil {
		return err
	}
	if len(s.Reload) > 0 {
		if err := h.WriteFile(l.marker(), nil, 0o600, host.Root); err != nil {
			return err
		}
	}
	if err := h.Symlink(id, filepath.Join(l.versions, current)); err != nil {
		return err
	}
	return l.link(h, o)
}

// adopt copies a working pair that stands in plain files into a version of its own and links to it, so that the switch
// to the next one is a single rename.
func (l layout) adopt(h host.Host, s spec.Certificate, o owners) error {
	if l.linked(h) {
		return nil
	}
	cert, certErr := h.ReadFile(l.certPath)
	key, keyErr := h.ReadFile(l.keyPath)
	if certErr != nil || keyErr != nil {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil // nobody can be using it
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil
	}
	id, err := versionID(signer)
	if err != nil {
		return err
	}
	if err := l.stage(h, s, o, id, key); err != nil {
		return err
	}
	if err := h.WriteFile(filepath.Join(l.version(id), certFile), cert, certMode, o.owner); err != nil {
		return err
	}
	if err := h.Symlink(id, filepath.Join(l.versions, current)); err != nil {
		return err
	}
	return l.link(h, o)
}

func (l layout) linked(h host.Host) bool {
	for path, target := range l.links() {
		if have, err := h.Readlink(path); err != nil || have != target {
			return false
		}
	}
	return true
}

func (l layout) link(h host.Host, o owners) error {
	links := l.links()
	for _, path := range []string{l.keyPath, l.certPath} {
		if have, err := h.Readlink(path); err == nil && have == links[path] {
			continue
		}
		if err := h.MkdirAll(filepath.Dir(path), 0o755, host.Root); err != nil {
			return err
		}
		if err := h.Symlink(links[path], path); err != nil {
			return err
		}
	}
	return nil
}

// stale are versions that are not in use: old keys, and what a killed apply left.
func (l layout) stale(h host.Host) ([]string, error) {
	names, err := h.ReadDir(l.versions)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	inUse, _ := h.Readlink(filepath.Join(l.versions, current)) // no link: nothing is in use
	return slices.DeleteFunc(names, func(n string) bool { return n == current || n == reloadDue || n == inUse }), nil
}

func (l layout) sweep(h host.Host) error {
	names, err := l.stale(h)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := h.RemoveAll(l.version(n)); err != nil {
			return err
		}
	}
	return nil
}

// real follows the last link of a path, so that modes are those of the file.
func real(h host.Host, path string) string {
	target, err := h.Readlink(path)
	if err != nil {
		return path
	}
	if filepath.IsAbs(target) {
		return target
	}
	return filepath.Join(filepath.Dir(path), target)
}

// Delete implements provider.Deleter. The ACME account stays: other certificates may use it.
func (Driver) Delete(_ context.Context, h host.Host, _ address, s spec.Certificate) error {
	l := layoutOf(s)
	for _, path := range []string{l.certPath, l.keyPath} {
		if err := h.Remove(path); err != nil {
			return err
		}
	}
	return h.RemoveAll(l.versions)
}
