package certificate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

type address = object.Address

// Status is what was seen of a certificate. Times are UTC.
type Status struct {
	Path       string    `json:"path"` // of the certificate
	CommonName string    `json:"common_name,omitempty"`
	DNSNames   []string  `json:"dns_names,omitempty"` // sorted
	Serial     string    `json:"serial,omitempty"`    // lower-case hex
	Issuer     string    `json:"issuer,omitempty"`
	KeyType    string    `json:"key_type,omitempty"`
	NotBefore  time.Time `json:"not_before,omitzero"`
	NotAfter   time.Time `json:"not_after,omitzero"`
	RenewAt    time.Time `json:"renew_at,omitzero"`
	KeyMatches bool      `json:"key_matches"`
	Verified   bool      `json:"verified"`          // the chain ends in the pinned root
	Problem    string    `json:"problem,omitempty"` // why a new one must be issued
	Files      []File    `json:"files,omitempty"`   // key, certificate, the directory of both, the account
	Account    string    `json:"account"`           // ok, none, unreadable
	Served     string    `json:"served,omitempty"`  // serial; empty: nobody serves one
	// why none is served: NotListening, Rejected, or what else went wrong
	Serving   string   `json:"serving,omitempty"`
	Stale     int      `json:"stale,omitempty"` // versions left behind
	ReloadDue bool     `json:"reload_due,omitempty"`
	Accounts  []string `json:"accounts,omitempty"` // thumbprints of the account and those before it

	// ReloadPending is why the reload is not done yet; empty: there is no such reason.
	ReloadPending string `json:"reload_pending,omitempty"`

	leaked bool
}

// File is a file's mode and owner, as they are and as they should be.
type File struct {
	Path      string `json:"path"`
	Mode      string `json:"mode"`
	WantMode  string `json:"want_mode"`
	Owner     string `json:"owner"` // uid:gid
	WantOwner string `json:"want_owner"`
}

const jitterShare = 25 // a renewal comes up to 1/25 of the lifetime early

// Observe implements provider.Driver.
func (d Driver) Observe(ctx context.Context, h host.Host, a object.Address, s spec.Certificate) (*Status, error) {
	if s.Fingerprint == "" {
		return nil, provider.Permanent(fmt.Errorf("%s: no root fingerprint is pinned, so no certificate can be trusted",
			a))
	}
	certPEM, err := optional(h.ReadFile(s.CertPath))
	if err != nil {
		return nil, err
	}
	keyPEM, err := optional(h.ReadFile(s.KeyPath))
	if err != nil {
		return nil, err
	}
	if certPEM == nil && keyPEM == nil {
		return nil, nil
	}
	st := &Status{Path: s.CertPath}
	judge(st, h, a, s, certPEM, keyPEM)
	if err := st.files(h, s); err != nil {
		return nil, err
	}
	l := layoutOf(s)
	stale, err := l.stale(h)
	if err != nil {
		return nil, err
	}
	st.Stale = len(stale)
	r := lookReload(ctx, h, s)
	st.ReloadDue, st.ReloadPending = r.due, r.pending
	if s.Served != "" && st.Problem == "" {
		st.Served, st.Serving = served(ctx, h, s)
	}
	return st, nil
}

func optional(b []byte, err error) ([]byte, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// judge reads the pair and says the first reason for which it is of no use.
func judge(st *Status, h host.Host, a object.Address, s spec.Certificate, certPEM, keyPEM []byte) {
	switch {
	case certPEM == nil:
		st.Problem = "the certificate is missing"
		return
	case keyPEM == nil:
		st.Problem = "the key is missing"
	}
	leaf, issuers, err := parseChain(certPEM)
	if err != nil {
		st.Problem = "the certificate cannot be read: " + err.Error()
		return
	}
	st.describe(leaf)
	st.RenewAt = renewAt(leaf, s, a)
	st.leaked = slices.Contains(s.Leaked, keyDigest(leaf))
	_, pairErr := tls.X509KeyPair(certPEM, keyPEM)
	st.KeyMatches = pairErr == nil
	roots, rootErr := readRoots(h, s)
	verifyErr := rootErr
	if rootErr == nil {
		verifyErr = verify(leaf, issuers, roots, insideLifetime(leaf, h.Now()))
	}
	st.Verified = verifyErr == nil
	if st.Problem == "" {
		st.Problem = problem(st, s, h.Now(), pairErr, verifyErr)
	}
	if st.Problem == "" {
		st.Problem = cmp.Or(provider.Exposed(leaf, issuers, s.Exposed), provider.Exposed(leaf, nil, s.Renew))
	}
}

func problem(st *Status, s spec.Certificate, now time.Time, pairErr, verifyErr error) string {
	switch {
	case pairErr != nil:
		return "the key is another's: " + pairErr.Error()
	case st.leaked:
		return "others could read its key"
	case now.After(st.NotAfter):
		return "expired at " + st.NotAfter.Format(time.RFC3339)
	case !slices.Equal(st.DNSNames, sorted(s.DNSNames)):
		return "names are " + strings.Join(st.DNSNames, ", ")
	case st.KeyType != s.KeyType:
		return "key type is " + st.KeyType
	case verifyErr != nil:
		return "does not end in the pinned root: " + verifyErr.Error()
	case !now.Before(st.RenewAt):
		return "renewal is due since " + st.RenewAt.Format(time.RFC3339)
	}
	return ""
}

func (st *Status) describe(leaf *x509.Certificate) {
	st.CommonName, st.Issuer = leaf.Subject.CommonName, leaf.Issuer.CommonName
	st.DNSNames = sorted(leaf.DNSNames)
	st.Serial = serial(leaf)
	st.NotBefore, st.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	st.KeyType = keyTypeOf(leaf.PublicKey)
}

// keyDigest is how Leaked names a key.
func keyDigest(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

func sorted(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}

// renewAt is RenewBefore, or a third of the real lifetime, before the end; and a little earlier, differently for each
// certificate, so that those that were issued together are not renewed together. Which it is says its name, and not its
// object's, which is another where phoenix calls it otherwise.
func renewAt(leaf *x509.Certificate, s spec.Certificate, a object.Address) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	before := time.Duration(s.RenewBefore)
	if before == 0 || before >= life {
		before = life / 3
	}
	name := object.NewAddress(spec.KindCertificate, a.Scope(), s.CommonName)
	sum := sha256.Sum256([]byte(string(name) + " " + serial(leaf)))
	share := time.Duration(binary.BigEndian.Uint32(sum[:]) >> 16) // 0..65535
	return leaf.NotAfter.Add(-before - life/jitterShare*share/65536).UTC().Truncate(time.Second)
}

// insideLifetime is now, moved into the leaf's lifetime, so that an expired certificate is not also called foreign.
func insideLifetime(leaf *x509.Certificate, now time.Time) time.Time {
	if now.After(leaf.NotAfter) {
		return leaf.NotAfter
	}
	if now.Before(leaf.NotBefore) {
		return leaf.NotBefore
	}
	return now
}

// parseChain gives the leaf and what stands behind it.
func parseChain(text []byte) (leaf *x509.Certificate, issuers []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, nil, fmt.Errorf("unexpected %s in it", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, err
		}
		if leaf == nil {
			leaf = c
			continue
		}
		issuers = append(issuers, c)
	}
	if leaf == nil {
		return nil, nil, errors.New("no PEM certificate in it")
	}
	return leaf, issuers, nil
}

// readRoots reads the roots that the chain may end in and checks them against the pinned fingerprints.
func readRoots(h host.Host, s spec.Certificate) (*x509.CertPool, error) {
	return provider.Roots(h, s.ACME.RootFile, s.Fingerprint, s.Good)
}

func verify(leaf *x509.Certificate, issuers []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	inters := x509.NewCertPool()
	for _, c := range issuers {
		inters.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inters, CurrentTime: now})
	return err
}

// files looks at modes and owners.
func (st *Status) files(h host.Host, s spec.Certificate) error {
	o, err := ownersOf(h, s)
	if err != nil {
		return err
	}
	for _, w := range wanted(h, s, o) {
		m, err := h.Lstat(w.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		st.Files = append(st.Files, File{
			Path: w.path, Mode: octal(m.Mode), WantMode: octal(w.mode(m.Mode)),
			Owner: ids(host.Owner{UID: m.UID, GID: m.GID}), WantOwner: ids(w.ownerOf(m)),
		})
	}
	st.Account, st.Accounts = accountState(h, s), formerAccounts(h, s)
	return nil
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%04o", uint32(spec.ModeOf(m))) }

func ids(o host.Owner) string { return fmt.Sprintf("%d:%d", o.UID, o.GID) }

// want is how one file or directory should be.
type want struct {
	path  string
	mode  func(have fs.FileMode) fs.FileMode
	owner *host.Owner // nil: whoever has it
}

func (w want) ownerOf(m host.Meta) host.Owner {
	if w.owner == nil {
		return host.Owner{UID: m.UID, GID: m.GID}
	}
	return *w.owner
}

// wanted lists what has a mode to keep. The directories that hold the links may be open, but nobody else may replace
// the links.
func wanted(h host.Host, s spec.Certificate, o owners) []want {
	exactly := func(m fs.FileMode) func(fs.FileMode) fs.FileMode {
		return func(fs.FileMode) fs.FileMode { return m }
	}
	shut := func(m fs.FileMode) fs.FileMode { return m &^ 0o022 }
	l, root := layoutOf(s), host.Root
	key := real(h, s.KeyPath)
	out := []want{
		{key, exactly(s.Mode.Perm()), &o.owner},
		{real(h, s.CertPath), exactly(certMode), &o.owner},
		{filepath.Dir(s.KeyPath), shut, nil},
		{s.AccountDir, exactly(0o700), &root},
		{accountFile(s), exactly(0o600), &root},
	}
	if dir := filepath.Dir(s.CertPath); dir != filepath.Dir(s.KeyPath) {
		out = append(out, want{dir, shut, nil})
	}
	if filepath.Dir(filepath.Dir(key)) == l.versions {
		out = append(out, want{l.versions, exactly(o.directory), &o.owner},
			want{real(h, filepath.Dir(key)), exactly(o.directory), &o.owner})
	}
	return out
}
