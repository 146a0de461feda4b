package stepca

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/keybox"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// States of the root. Any other text says why it cannot be used.
const (
	rootAbsent = "absent"
	rootUsable = "usable"

	rootSucceeded = "its successor is to take its place"
)

// Status is what was seen of an authority. Healthy, Directory and Probe tell about the running step-ca, whose unit
// comes after this object: they are for people and health checks, and no part of being true.
type Status struct {
	Root                    string    `json:"root"` // absent, usable, or why it is not
	RootFingerprint         string    `json:"root_fingerprint,omitempty"`
	RootNotAfter            time.Time `json:"root_not_after,omitzero"`
	NextRoot                string    `json:"next_root,omitempty"` // fingerprint of the one that is to take its place
	OldRoot                 string    `json:"old_root,omitempty"`  // fingerprint of the one whose place it took
	IntermediateFingerprint string    `json:"intermediate_fingerprint,omitempty"`
	IntermediateNotBefore   time.Time `json:"intermediate_not_before,omitzero"`
	IntermediateNotAfter    time.Time `json:"intermediate_not_after,omitzero"`
	IntermediatePermits     string    `json:"intermediate_permits,omitempty"` // its name constraints
	Config                  bool      `json:"config"`                         // ca.json is what the spec says
	Database                string    `json:"database,omitempty"`             // its type once there is one, else empty
	Wrong                   []Wrong   `json:"wrong,omitempty"`                // all that Apply would mend
	// Inputs is a digest of all that the process reads at its start; empty while something is missing.
	Inputs    string `json:"inputs,omitempty"`
	Healthy   bool   `json:"healthy"`         // /health answers over TLS verified with our root
	Directory bool   `json:"directory"`       // the ACME directory answers
	Probe     string `json:"probe,omitempty"` // why not
}

// Wrong is one difference between the volume and the spec.
type Wrong struct {
	Path string `json:"path"`
	Have string `json:"have"`
	Want string `json:"want"`
}

func (s *Status) wrong(path, have, want string) { s.Wrong = append(s.Wrong, Wrong{path, have, want}) }

// layout is where things stand in the volume.
type layout string

func (l layout) secrets() string      { return filepath.Join(string(l), "secrets") }
func (l layout) root() string         { return filepath.Join(l.secrets(), "root") }
func (l layout) intermediate() string { return filepath.Join(l.secrets(), "intermediate") }
func (l layout) certs() string        { return filepath.Join(string(l), "certs") }
func (l layout) configDir() string    { return filepath.Join(string(l), "config") }
func (l layout) config() string       { return filepath.Join(l.configDir(), "ca.json") }
func (l layout) db() string           { return filepath.Join(string(l), "db") }
func (l layout) rootCopy() string     { return filepath.Join(l.certs(), credRoot) }
func (l layout) intermediateCopy() string {
	return filepath.Join(l.certs(), credIntermediate)
}

// Files of a pair's directory.
const (
	fileCert     = "ca.crt"
	fileKey      = "key"
	filePassword = "password"
)

// Observe implements provider.Driver.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.StepCA) (*Status, error) {
	l := layout(s.Dir)
	root, err := readPair(h, l.root())
	st := &Status{Root: rootState(root, err, h.Now())}
	if next, due := successor(h, l, s, root); due {
		st.Root, st.RootFingerprint, st.RootNotAfter = rootSucceeded, fingerprint(next.cert), next.cert.NotAfter
		return st, nil
	}
	if st.Root == rootAbsent {
		why, err := lost(h, l, s)
		if err != nil || why == "" {
			return nil, err
		}
		st.Root = why
	}
	if st.Root != rootUsable {
		return st, nil
	}
	st.RootFingerprint, st.RootNotAfter = fingerprint(root.cert), root.cert.NotAfter
	if err := st.look(ctx, h, l, s, root); err != nil {
		return nil, err
	}
	probe(ctx, h, s, root.cert, st)
	return st, nil
}

// look compares everything but the root with the spec.
func (st *Status) look(ctx context.Context, h host.Host, l layout, s spec.StepCA, root pair) error {
	intermediate := st.lookIntermediate(h, l, s, root)
	roots := offered(h, l, s, root)
	st.lookRotation(h, l, s, root)
	st.lookCopy(h, l.rootCopy(), roots...)
	if intermediate != nil {
		st.lookCopy(h, l.intermediateCopy(), intermediate)
	}
	config, err := render(s)
	if err != nil {
		return err
	}
	have, err := h.ReadFile(l.config())
	if st.Config = err == nil && string(have) == string(config); !st.Config {
		st.wrong(l.config(), textOr(err, "another configuration"), "the configuration")
	}
	if err := st.lookModes(h, l, s); err != nil {
		return err
	}
	if names, err := h.ReadDir(l.db()); err == nil && len(names) > 0 {
		st.Database = databaseIn(names)
	}
	if err := st.wholeDatabase(ctx, h, l, s); err != nil {
		return err
	}
	if len(st.Wrong) == 0 {
		st.Inputs = digest(config, append(roots, intermediate)...)
	}
	return nil
}

func (st *Status) lookIntermediate(h host.Host, l layout, s spec.StepCA, root pair) *x509.Certificate {
	p, err := readPair(h, l.intermediate())
	if err != nil {
		st.wrong(l.intermediate(), textOr(err, ""), "a certificate and its key")
		return nil
	}
	c := p.cert
	st.IntermediateFingerprint, st.IntermediatePermits = fingerprint(c), constraintsIn(c).String()
	st.IntermediateNotBefore, st.IntermediateNotAfter = c.NotBefore, c.NotAfter
	if why := intermediateFault(s, root.cert, c, h.Now()); why != "" {
		st.wrong(l.intermediate(), why, "signed by the root, permits "+constraintsOf(s).String())
	}
	return c
}

func (st *Status) lookCopy(h host.Host, path string, certs ...*x509.Certificate) {
	have, err := h.ReadFile(path)
	if err != nil || string(have) != string(encodeCerts(certs)) {
		var want []string
		for _, c := range certs {
			want = append(want, fingerprint(c))
		}
		st.wrong(path, textOr(err, "another certificate"), "sha256 "+strings.Join(want, ", "))
	}
}

func (st *Status) lookModes(h host.Host, l layout, s spec.StepCA) error {
	user, err := h.Lookup(s.User, "")
	if err != nil {
		st.wrong(l.db(), "no user "+s.User, "owned by "+s.User)
		return nil
	}
	list, err := present(h, l, user)
	if err != nil {
		return err
	}
	for _, w := range list {
		m, err := h.Lstat(w.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if w.directory { // a missing file is told by what should be in it
				st.wrong(w.path, rootAbsent, w.String())
			}
		case err != nil:
			return err
		case !w.is(m):
			st.wrong(w.path, describe(m), w.String())
		}
	}
	extra, err := extras(h, l, user)
	for _, e := range extra {
		st.wrong(e.path, e.have, e.want)
	}
	return err
}

// rootState says whether a root can sign. An error other than "absent" is told, not mended: only a backup has the key.
func rootState(root pair, err error, now time.Time) string {
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(err, errNoPair):
		return rootAbsent
	case err != nil:
		return textOr(err, "")
	case root.cert.CheckSignatureFrom(root.cert) != nil || !root.cert.IsCA:
		return "it is no self-signed CA certificate"
	case !now.Before(root.cert.NotAfter):
		return "it expired on " + root.cert.NotAfter.Format(time.DateOnly)
	}
	return rootUsable
}

// lost says why an absent root is a loss and no fresh start; empty: nothing was ever here.
func lost(h host.Host, l layout, s spec.StepCA) (string, error) {
	if s.Pinned != "" {
		return fmt.Sprintf("lost: the hypervisor has pinned %s, and the volume %s holds no root", s.Pinned, s.Dir), nil
	}
	for _, path := range []string{l.rootCopy(), l.intermediateCopy(), l.intermediate(), l.config(), l.db()} {
		_, err := h.Lstat(path)
		if err == nil {
			return fmt.Sprintf("lost: %s is there and %s is not", path, l.root()), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

var errNoPair = errors.New("no such pair")

// readPair reads a certificate and its key and checks that they belong together. Without the directory the error is
// errNoPair.
func readPair(h host.Host, dir string) (pair, error) {
	if _, err := h.Lstat(dir); err != nil {
		return pair{}, errors.Join(errNoPair, err)
	}
	var raw [3][]byte
	for i, name := range []string{fileCert, fileKey, filePassword} {
		var err error
		if raw[i], err = h.ReadFile(filepath.Join(dir, name)); err != nil {
			return pair{}, err
		}
	}
	cert, err := parseCert(raw[0])
	if err != nil {
		return pair{}, err
	}
	passwords := strings.Fields(string(raw[2])) // more than one while it is being changed
	err = keybox.ErrPassword
	var key *ecdsa.PrivateKey
	for _, p := range passwords {
		if key, err = keybox.Open(raw[1], []byte(p)); err == nil {
			break
		}
	}
	if err != nil {
		return pair{}, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return pair{}, errors.New("the key does not belong to the certificate")
	}
	return pair{cert, key, len(passwords)}, nil
}

// digest is over all that step-ca reads at its start.
func digest(config []byte, certs ...*x509.Certificate) string {
	sum := sha256.New()
	sum.Write(config)
	for _, c := range certs {
		sum.Write(c.Raw)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func databaseIn(names []string) string {
	for _, n := range names {
		switch n {
		case filepath.Base(databaseFile("")):
			return bbolt
		case "MANIFEST":
			return badger
		}
	}
	return "unknown"
}

// textOr tells an error in few words, and the other text where there is none.
func textOr(err error, other string) string {
	switch {
	case err == nil:
		return other
	case errors.Is(err, fs.ErrNotExist):
		var p *fs.PathError
		if errors.As(err, &p) {
			return p.Path + " is absent"
		}
		return rootAbsent
	}
	return err.Error()
}
