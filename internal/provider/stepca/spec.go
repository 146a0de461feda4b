// Package stepca keeps a certificate authority true: its root and intermediate certificates and keys, the configuration
// of step-ca and the directory of its database. It runs inside the container that owns the volume; no key ever leaves
// it.
//
// The volume holds
//
//	secrets/root/          ca.crt key password    root:root 0700; step-ca never needs it
//	secrets/intermediate/  ca.crt key password    root:root 0700; handed to the unit with LoadCredential
//	certs/                 root_ca.crt intermediate_ca.crt, public copies
//	config/ca.json
//	db/                    of the user that runs step-ca
//
// and, while one root takes another's place, secrets/next-root, next-intermediate and old-root (rotate.go).
//
// A root comes into being with one rename of a complete directory, so that there is either a usable one or none. Once
// there was one, no other is made without a person's consent (spec.StepCA.NewRoot).
package stepca

import (
	"encoding/json"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver implements provider.Driver for spec.StepCA.
type Driver struct{}

// The databases that step-ca can embed, as ca.json names them.
const (
	bbolt  = "bbolt"
	badger = "badgerv2"
)

var (
	// What step-ca's policy takes (golang.org/x/net/idna's Lookup profile): letters, digits and hyphens, no underscore.
	dnsName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// The provisioner's name is a part of the directory's URL.
	provisionerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.StepCA, diag.List) {
	s, diags := provider.Decode[spec.StepCA](raw)
	if diags.HasErrors() {
		return s, diags
	}
	for field, path := range map[string]string{"dir": s.Dir, "credentials": s.Credentials, "data": s.Data} {
		if !filepath.IsAbs(path) {
			diags.Errorf("%s %q is not an absolute path", field, path)
		}
	}
	if s.User == "" || s.RootName == "" || s.IntermediateName == "" {
		diags.Errorf("user, root_name and intermediate_name must be set")
	}
	if _, port, err := net.SplitHostPort(s.Address); err != nil || port == "" {
		diags.Errorf("address %q has no port", s.Address)
	}
	if !provisionerName.MatchString(s.Provisioner) {
		diags.Errorf("provisioner %q is not made of letters, digits, - and _", s.Provisioner)
	}
	if s.Database != bbolt && s.Database != badger {
		diags.Errorf("database %q is neither %s nor %s", s.Database, bbolt, badger)
	}
	for _, p := range s.RootPermits {
		if _, err := netip.ParsePrefix(p); err != nil && (isAddress(p) || !validName(p)) {
			diags.Errorf("root_permits: %q is neither a domain nor a subnet", p)
		}
	}
	checkNames(s, &diags)
	checkLifetimes(s, &diags)
	diags.Sort()
	return s, diags
}

// checkNames refuses what step-ca would read as "any name", and names that the intermediate's constraints forbid.
func checkNames(s spec.StepCA, diags *diag.List) {
	if len(s.DNSNames) == 0 {
		diags.Errorf("dns_names is empty: no client could reach the authority")
	}
	if len(s.AllowedNames) == 0 {
		diags.Errorf("allowed_names is empty: step-ca would then sign any name")
	}
	limits := constraintsOf(s)
	for _, list := range [][]string{s.DNSNames, s.AllowedNames} {
		for _, name := range list {
			switch {
			case !validName(name):
				diags.Errorf("%q is neither an address nor a lower-case DNS name that step-ca signs", name)
			case !limits.permit(name):
				diags.Errorf("%q is outside of the domains and addresses that the intermediate may sign", name)
			}
		}
	}
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func validName(name string) bool {
	if isAddress(name) {
		return true
	}
	return len(name) <= 253 && dnsName.MatchString(name)
}

func checkLifetimes(s spec.StepCA, diags *diag.List) {
	chain := []struct {
		name string
		life spec.Duration
	}{{"leaf_lifetime", s.LeafLifetime}, {"max_leaf_lifetime", s.MaxLeafLifetime},
		{"intermediate_lifetime", s.IntermediateLife}, {"root_lifetime", s.RootLifetime}}
	for i, c := range chain {
		if c.life <= 0 {
			diags.Errorf("%s must be positive", c.name)
		}
		if i > 0 && c.life < chain[i-1].life {
			diags.Errorf("%s is shorter than %s", c.name, chain[i-1].name)
		}
	}
}

// split sorts names into DNS names and addresses, each once, in order of first appearance.
func split(names ...string) (dns []string, ips []netip.Addr) {
	seen := map[string]bool{}
	for _, n := range names {
		ip, err := netip.ParseAddr(strings.Trim(n, "[]"))
		switch {
		case seen[n]:
		case err == nil:
			ips = append(ips, ip.Unmap())
		default:
			dns = append(dns, n)
		}
		seen[n] = true
	}
	return dns, ips
}
