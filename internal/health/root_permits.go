package health

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// rootPermits is what the CA's root has to permit: all names that something has a certificate for.
type rootPermits struct {
	Dir   string   `json:"dir"`
	Names []string `json:"names"`
}

const newRootFix = "phoenix ca rotate --new-root --yes makes a root for all names of the file (docs/access.md); " +
	"or take " +
	"the names out"

// runRootPermits looks for names that came into the file after the root was made, whose name constraints forbid them:
// the CA refuses to sign for them, and nobody would take such a certificate.
func runRootPermits(_ context.Context, h host.Host, c Check, p rootPermits) Result {
	raw, err := h.ReadFile(filepath.Join(p.Dir, "certs", "root_ca.crt"))
	if err != nil {
		return c.unasked("what the root permits is not known", err.Error())
	}
	block, _ := pem.Decode(raw) // the first: the one that signs
	if block == nil {
		return c.unasked("what the root permits is not known", "certs/root_ca.crt is no PEM")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return c.unasked("what the root permits is not known", err.Error())
	}
	limits := slices.Clone(root.PermittedDNSDomains)
	for _, n := range root.PermittedIPRanges {
		limits = append(limits, n.String())
	}
	bad := slices.DeleteFunc(slices.Clone(p.Names), func(name string) bool { return permits(root, name) })
	switch {
	case len(bad) > 0:
		return c.fail(fmt.Sprintf("the root forbids %d names of the file", len(bad)), strings.Join(bad,
			" ")+"; it permits "+strings.Join(limits, " "), newRootFix)
	case len(limits) == 0:
		return c.pass("the root permits all names of the file", "it has no name constraints")
	}
	return c.pass("the root permits all names of the file, and nothing outside of the site", strings.Join(limits, " "))
}

// permits is RFC 5280, section 4.2.1.10, for DNS names and addresses.
func permits(cert *x509.Certificate, name string) bool {
	ip := net.ParseIP(name)
	if ip == nil {
		return len(cert.PermittedDNSDomains) == 0 || slices.ContainsFunc(cert.PermittedDNSDomains, func(d string) bool {
			return name == d || strings.HasSuffix(name, "."+d)
		})
	}
	contains := func(n *net.IPNet) bool { return n.Contains(ip) }
	return !slices.ContainsFunc(cert.ExcludedIPRanges, contains) &&
		(len(cert.PermittedIPRanges) == 0 || slices.ContainsFunc(cert.PermittedIPRanges, contains))
}
