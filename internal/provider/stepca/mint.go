package stepca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// pair is a CA certificate with its key.
type pair struct {
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	passwords int // that stand in its file
}

// constraints are the names an intermediate may sign (RFC 5280, section 4.2.1.10). Without any address, all are
// excluded: an empty list would permit every one.
type constraints struct {
	domains  []string
	networks []*net.IPNet
	excluded []*net.IPNet
}

// constraintsOf derives the constraints: the domains, the authority's addresses, and its own names outside of the
// domains.
func constraintsOf(s spec.StepCA) constraints {
	var c constraints
	c.domains = slices.Clone(s.Domains)
	names, ips := split(append(slices.Clone(s.DNSNames), s.Addresses...)...)
	for _, n := range names {
		if !within(n, c.domains) {
			c.domains = append(c.domains, n)
		}
	}
	for _, ip := range ips {
		c.networks = append(c.networks, single(ip))
	}
	if len(c.networks) == 0 {
		c.excluded = []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
	}
	slices.Sort(c.domains)
	c.domains = slices.Compact(c.domains)
	slices.SortFunc(c.networks, func(a, b *net.IPNet) int { return strings.Compare(a.String(), b.String()) })
	return c
}

func single(ip netip.Addr) *net.IPNet {
	raw := net.IP(ip.AsSlice())
	return &net.IPNet{IP: raw, Mask: net.CIDRMask(len(raw)*8, len(raw)*8)}
}

// within reports whether a DNS name is one of the domains or below.
func within(name string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

// permit reports whether an intermediate with these constraints may sign the name.
func (c constraints) permit(name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return slices.ContainsFunc(c.networks, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return within(name, c.domains)
}

// String compares two sets of constraints and shows them to people.
func (c constraints) String() string {
	parts := slices.Clone(c.domains)
	for _, n := range c.networks {
		parts = append(parts, n.String())
	}
	for _, n := range c.excluded {
		parts = append(parts, "not "+n.String())
	}
	return strings.Join(parts, " ")
}

func constraintsIn(cert *x509.Certificate) constraints {
	return constraints{cert.PermittedDNSDomains, cert.PermittedIPRanges, cert.ExcludedIPRanges}
}

// into puts the constraints into a certificate that is to be signed, as critical: who cannot check them must not take
// the certificate.
func (c constraints) into(t *x509.Certificate) {
	t.PermittedDNSDomainsCritical = true
	t.PermittedDNSDomains, t.PermittedIPRanges, t.ExcludedIPRanges = c.domains, c.networks, c.excluded
}

func template(name string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore:             now.Add(-spec.CABackdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(life).UTC().Truncate(time.Second),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// mintRoot makes a self-signed root that can have intermediates but none below those.
func mintRoot(h host.Host, l layout, s spec.StepCA) (pair, error) {
	now := h.Now()
	name, err := nextName(h, l, s, now)
	if err != nil {
		return pair{}, err
	}
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	t, err := template(name, now, time.Duration(s.RootLifetime))
	if err != nil {
		return pair{}, err
	}
	t.MaxPathLen = 1
	if !s.RootOpen {
		rootConstraintsOf(s).into(t)
	}
	cert, err := sign(t, t, key, key)
	return pair{cert: cert, key: key}, err
}

// mintIntermediate signs the key with the root; it never outlives it.
func mintIntermediate(s spec.StepCA, root pair, key *ecdsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
	t, err := template(s.IntermediateName, now, time.Duration(s.IntermediateLife))
	if err != nil {
		return nil, err
	}
	if t.NotAfter.After(root.cert.NotAfter) {
		t.NotAfter = root.cert.NotAfter
	}
	t.MaxPathLenZero = true
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	constraintsOf(s).into(t)
	return sign(t, root.cert, key, root.key)
}

func sign(t, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), parentKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// intermediateFault says why an intermediate has to be issued again; empty: it is as it should be.
func intermediateFault(s spec.StepCA, root, c *x509.Certificate, now time.Time) string {
	want, have := constraintsOf(s).String(), constraintsIn(c).String()
	switch {
	case c.CheckSignatureFrom(root) != nil:
		return "signed by another root"
	case exposed(s, c):
		return "from before " + s.Exposed.Format(time.RFC3339)
	case !c.IsCA || c.MaxPathLen != 0 || !c.MaxPathLenZero:
		return "no CA certificate of path length 0"
	case !now.Before(c.NotAfter):
		return "expired"
	case now.After(renewal(c)):
		return "in the last third of its lifetime"
	case c.Subject.CommonName != s.IntermediateName:
		return "named " + c.Subject.CommonName
	case want != have:
		return "permits " + have
	}
	return ""
}

// exposed is whether the intermediate's key counts as known to others.
func exposed(s spec.StepCA, c *x509.Certificate) bool {
	return c.NotBefore.Add(spec.CABackdate).Before(s.Exposed)
}

// renewal is when an intermediate is issued anew: after two thirds of its lifetime.
func renewal(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func encodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func parseCert(raw []byte) (*x509.Certificate, error) {
	p, _ := pem.Decode(raw)
	if p == nil || p.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("the certificate is no PEM")
	}
	return x509.ParseCertificate(p.Bytes)
}
