// Package certificate keeps a certificate issued by ACME (RFC 8555) with a key that is made where it is used and never
// leaves. It renews in time, sees what is on disk as well as what is served, and may be killed anywhere.
//
// Key and chain of one issuance stand together in a directory of their own beside the key, KEY.d/ID/, and KEY.d/current
// points to the present one. CertPath and KeyPath are links through current, so that one rename puts a new pair in
// place: nobody ever sees the key of one with the chain of another, whenever phoenix or the machine stops.
package certificate

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps certificate objects true. The zero value is ready.
type Driver struct {
	// Listen opens the port that challenges arrive at where there is no webroot; nil: that of the system itself.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
}

// New gives the driver for the engine.
func New() provider.Erased { return provider.New[spec.Certificate, Status](Driver{}) }

const certMode = 0o644

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Certificate, diag.List) {
	s, diags := provider.Decode[spec.Certificate](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if s.Mode == 0 {
		s.Mode = 0o600
	}
	if s.KeyType == "" {
		s.KeyType = "ec-p256"
	}
	if s.Challenge == "" {
		s.Challenge = spec.HTTP01
	}
	checkNames(s, &diags)
	checkPaths(s, &diags)
	if _, known := keyTypes[s.KeyType]; !known {
		diags.Errorf("key_type %q is not known: use ec-p256, ec-p384, rsa-2048 or rsa-4096", s.KeyType)
	}
	if s.Challenge != spec.HTTP01 && s.Challenge != spec.TLSALPN01 {
		diags.Errorf("challenge %q is not known: use %s or %s", s.Challenge, spec.HTTP01, spec.TLSALPN01)
	}
	if s.Mode&^0o640 != 0 {
		diags.Errorf("mode %04o lets others at the key: use 0600 or 0640", uint32(s.Mode))
	}
	if _, err := hex.DecodeString(s.Fingerprint); err != nil || (s.Fingerprint != "" && len(s.Fingerprint) != 64) {
		diags.Errorf("fingerprint %q is not the SHA-256 of a root certificate in hex", s.Fingerprint)
	}
	if s.RenewBefore < 0 || s.Lifetime < 0 {
		diags.Errorf("renew_before and lifetime cannot be negative")
	}
	return s, diags
}

func checkNames(s spec.Certificate, diags *diag.List) {
	if !slices.Contains(s.DNSNames, s.CommonName) {
		diags.Errorf("common_name %q is not among dns_names", s.CommonName)
	}
	for _, n := range s.DNSNames {
		if !dnsName(n) {
			diags.Errorf("dns name %q cannot be in a certificate: lower-case letters, digits, - and dots, no "+
				"wildcard (the challenges of this CA cannot prove one)", n)
		}
	}
}

func checkPaths(s spec.Certificate, diags *diag.List) {
	paths := map[string]string{"cert_path": s.CertPath, "key_path": s.KeyPath, "account_dir": s.AccountDir,
		"acme.root_file": s.ACME.RootFile}
	if s.Webroot != "" {
		paths["webroot"] = s.Webroot
	}
	for _, key := range []string{"cert_path", "key_path", "account_dir", "acme.root_file", "webroot"} {
		if p, asked := paths[key]; asked && !filepath.IsAbs(p) {
			diags.Errorf("%s %q is not an absolute path", key, p)
		}
	}
	if s.CertPath == s.KeyPath {
		diags.Errorf("cert_path and key_path are the same: %q", s.CertPath)
	}
	if !strings.HasPrefix(s.ACME.Directory, "https://") {
		diags.Errorf("acme.directory %q is not an https address", s.ACME.Directory)
	}
}

// dnsName is RFC 1123, section 2.1, in lower case, at most 253 characters.
func dnsName(n string) bool {
	if n == "" || len(n) > 253 {
		return false
	}
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
