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
func link(s spec.Trust) string      { return filepath.Join(storeDir, s.Name+".pem") }

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
	checkFingerprint(s.Fingerprint, &diags)
	return s, diags
}

func checkFingerprint(f string, diags *diag.List) {
	if f != "" && !sha256Hex.MatchString(f) {
		diags.Errorf("fingerprint %q is not 64 lower-case hex digits", f)
	}
}
