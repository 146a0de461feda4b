// Package trust keeps a root certificate in the trust store of a Debian or Ubuntu host (Driver), and the fingerprint by
// which that root is known on the hypervisor (PinDriver).
//
// The root comes over the network from the CA itself. Nothing is known yet that could vouch for that connection: what
// vouches for the certificate is its SHA-256, which is compared with the pinned one before anything is written.
package trust

import (
	"encoding/json"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver implements provider.Driver, provider.Deleter for spec.Trust.
type Driver struct{}

// Paths of Debian's ca-certificates package (update-ca-certificates(8)).
const (
	localDir = "/usr/local/share/ca-certificates" // one file a local root
	storeDir = "/etc/ssl/certs"                   // links by name and by OpenSSL's subject hash
	bundle   = storeDir + "/ca-certificates.crt"  // all of them in one file: what Go, curl and GnuTLS read
	hooksDir = "/etc/ca-certificates/update.d"
)

var (
	storeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func localFile(s spec.Trust) string { return filepath.Join(localDir, s.Name+".crt") }
func link(s spec.Trust) string      { return linkOf(s.Name) }
func linkOf(name string) string     { return filepath.Join(storeDir, name+".pem") }

// trusted are the fingerprints of all roots that the store has to have. The order is always the same: which of two
// certificates lead to changes nothing here.
func trusted(s spec.Trust) []string {
	out := []string{s.Fingerprint}
	for _, f := range s.Both {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return out
}

// single is the name of a file with one root alone: where there are two, programs read both in the one file, and
// OpenSSL finds each by the hash of its own.
func single(s spec.Trust, fingerprint string) string { return s.Name + "-" + fingerprint[:8] }

// names are those in the store, each of one certificate.
func names(s spec.Trust) []string {
	roots := trusted(s)
	if len(roots) == 1 {
		return []string{s.Name}
	}
	var out []string
	for _, f := range roots {
		out = append(out, single(s, f))
	}
	return out
}

// Decode implements provider.Driver. An empty fingerprint is one that is not known yet.
func (Driver) Decode(raw json.RawMessage) (spec.Trust, diag.List) {
	s, diags := provider.Decode[spec.Trust](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !storeName.MatchString(s.Name) {
		diags.Errorf("name %q is no file name of letters, digits, dots, - and _", s.Name)
	}
	if u, err := url.Parse(s.Server); err != nil || u.Scheme != "https" || u.Host == "" {
		diags.Errorf("server %q is no https address", s.Server)
	}
	for _, f := range append([]string{s.Fingerprint, s.Gone}, s.Both...) {
		checkFingerprint(f, &diags)
	}
	if slices.Contains(trusted(s), s.Gone) && s.Gone != "" {
		diags.Errorf("the root %s is to be trusted and gone", s.Gone)
	}
	return s, diags
}

func checkFingerprint(f string, diags *diag.List) {
	if f != "" && !sha256Hex.MatchString(f) {
		diags.Errorf("fingerprint %q is not 64 lower-case hex digits", f)
	}
}
