package stepca

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// rootConstraintsOf are those of a root that people import into browsers: whoever gets hold of its key signs for this
// site and for nothing else. They are wider than the intermediate's, which is issued again whenever names change: the
// site's whole subnet, and what the users say.
func rootConstraintsOf(s spec.StepCA) constraints {
	c := constraintsOf(s)
	for _, p := range s.RootPermits {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			if !within(p, c.domains) {
				c.domains = append(c.domains, p)
			}
			continue
		}
		prefix = prefix.Masked()
		raw := net.IP(prefix.Addr().AsSlice())
		whole := &net.IPNet{IP: raw, Mask: net.CIDRMask(prefix.Bits(), len(raw)*8)}
		inside := func(n *net.IPNet) bool {
			ones, bits := n.Mask.Size()
			return bits == len(raw)*8 && ones >= prefix.Bits() && whole.Contains(n.IP)
		}
		c.networks = append(slices.DeleteFunc(c.networks, inside), whole)
		c.excluded = nil
	}
	slices.Sort(c.domains)
	slices.SortFunc(c.networks, func(a, b *net.IPNet) int { return strings.Compare(a.String(), b.String()) })
	return c
}

// forbids are those of the names that a certificate with name constraints forbids.
func forbids(cert *x509.Certificate, names []string) (out []string) {
	c := constraintsIn(cert)
	if len(c.domains)+len(c.networks)+len(c.excluded) == 0 {
		return nil
	}
	for _, n := range names {
		if !c.permit(n) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// ownNames refuses names of the CA's own that the root does not permit: step-ca would not start with them.
func ownNames(l layout, s spec.StepCA, root *x509.Certificate) error {
	bad := forbids(root, append(slices.Clone(s.DNSNames), s.Addresses...))
	if len(bad) == 0 {
		return nil
	}
	return provider.PermanentHint(fmt.Errorf("the root in %s permits %s only: with it the CA cannot be reached as "+
		"%s", l.root(), constraintsIn(root), strings.Join(bad, ", ")),
		"go back to the names and addresses of before, add the new ones to step_ca.root_permits, make a root that "+
			"permits both with phoenix ca rotate --new-root --yes, and only then change them")
}
