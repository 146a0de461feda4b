package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// minLeaf is twice the minute that Traefik looks for what it has to renew in, and that step-ca dates certificates back
// by.
const minLeaf = spec.Duration(2 * time.Minute)

// stepCA checks the certificate authority's names and lifetimes.
func (c *checker) stepCA() {
	s := &c.cfg.Hypervisor.StepCA
	c.commonName(s.At, "root_ca_name", s.RootName)
	c.commonName(s.At, "intermediate_ca_name", s.IntermediateName)
	if s.RootName != "" && s.RootName == s.IntermediateName {
		c.errorf(s.At, "intermediate_ca_name", "give it a name of its own",
			"root and intermediate have the same name %q: chains could not be built", s.RootName)
	}
	if s.has("dns_name") && !c.toldAt(s.At, "dns_name") && c.certificateName(s.At, "dns_name", s.DNSName) {
		s.DNSName = strings.ToLower(s.DNSName)
		c.pointsAtCA(s)
	}
	for i, n := range s.DNSNames {
		if _, err := netip.ParseAddr(n); err != nil {
			c.certificateName(s.At, element("dns_names", i), n)
			s.DNSNames[i] = strings.ToLower(n)
		}
	}
	c.certificateNames(s.At, "allowed_names", s.AllowedNames)
	for i, n := range s.RootPermits {
		if _, err := netip.ParsePrefix(n); err != nil && n != allowAll {
			c.certificateName(s.At, element("root_permits", i), n)
			s.RootPermits[i] = strings.ToLower(n)
		}
	}
	c.lifetimes(s)
}

func (c *checker) commonName(a At, key, name string) {
	switch {
	case name == "" && a.has(key) && !c.toldAt(a, key):
		c.errorf(a, key, "write a name, or leave the key out", "is empty")
	case len(name) > maxCommonName:
		c.errorf(a, key, "write a shorter one", "%q is longer than the 64 bytes that a common name may have (RFC "+
			"5280, appendix A.1)", name)
	}
}

// pointsAtCA refuses a record that leads clients of the CA to another host.
func (c *checker) pointsAtCA(s *StepCA) {
	ca := c.ca
	if ca == nil || !ca.Network.Address.IsValid() {
		return
	}
	for _, z := range c.cfg.Hypervisor.DNS.Zones {
		for _, r := range z.Records {
			if found := r.Addresses(); r.FullName(z) == s.DNSName && len(found) > 0 &&
				!slices.Contains(found, ca.Network.Address.Addr()) {
				c.errorf(r.At, "", "give it the address "+ca.Network.Address.Addr().String(),
					"%s is the name of the CA, but the record leads to %s and not to container %s", s.DNSName, found[0],
					ca.ID)
			}
		}
	}
}

func (c *checker) lifetimes(s *StepCA) {
	if s.LeafLifetime != 0 && s.LeafLifetime < minLeaf {
		c.errorf(s.At, "leaf_lifetime", "24h is the default", "%s is too short to renew in time; at least 2m",
			time.Duration(s.LeafLifetime))
	}
	if t := time.Duration(s.OrderTimeout); t != 0 && (t < 5*time.Second || t > 10*time.Minute) {
		c.errorf(s.At, "order_timeout", "20s is the default", "%s is not between 5s and 10m", t)
	}
	longer := func(key string, a spec.Duration, than string, b spec.Duration) {
		if a != 0 && b != 0 && a > b {
			c.errorf(s.At, key, "make it shorter", "%s is longer than %s (%s), whose end would end it",
				time.Duration(a), than, time.Duration(b))
		}
	}
	longer("leaf_lifetime", s.LeafLifetime, "intermediate_lifetime", s.IntermediateLifetime)
	longer("intermediate_lifetime", s.IntermediateLifetime, "root_lifetime", s.RootLifetime)
	longer("leaf_lifetime", s.LeafLifetime, "root_lifetime", s.RootLifetime)
}

// artifacts checks where programs come from and that each has its checksum.
func (c *checker) artifacts() {
	for _, p := range []*Program{c.cfg.Hypervisor.Artifacts.StepCA, c.cfg.Hypervisor.Artifacts.Traefik} {
		if p == nil {
			continue
		}
		switch {
		case p.Path != "" && p.URL != "":
			c.errorf(p.At, "url", "keep one of them", "there is a path and a url")
		case p.has("path"):
			c.absolute(p.At, "path", p.Path)
		case p.has("url"):
			c.url(p)
		default:
			c.errorf(p.At, "", "add path or url", "nothing says where the program is")
		}
		p.SHA256 = strings.ToLower(p.SHA256)
		if p.has("sha256") && !c.toldAt(p.At, "sha256") &&
			(len(p.SHA256) != 64 || strings.Trim(p.SHA256, "0123456789abcdef") != "") {
			c.errorf(p.At, "sha256", "the output of sha256sum", "a SHA-256 has 64 hexadecimal digits")
		}
	}
}

// url does not show the address: it may have a password in it.
func (c *checker) url(p *Program) {
	rest, ok := strings.CutPrefix(p.URL, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(p.URL, "http://")
	}
	host, _, _ := strings.Cut(rest, "/")
	if !ok || host == "" || strings.ContainsAny(p.URL, " \"'\\") {
		c.errorf(p.At, "url", "https://HOST/PATH", "is not an http or https address")
	} else if strings.Contains(host, "@") {
		c.errorf(p.At, "url", "put the program where no password is needed; its checksum protects it",
			"has a user or password in it")
	}
}
