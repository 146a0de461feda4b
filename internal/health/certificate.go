package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// certParams is what health needs of a certificate. Anchor finds the root in a file of the container.
type certParams struct {
	CommonName  string        `json:"common_name"`
	DNSNames    []string      `json:"dns_names"`
	CertPath    string        `json:"cert_path"`
	KeyPath     string        `json:"key_path"`
	RenewBefore spec.Duration `json:"renew_before,omitempty"`
	Served      string        `json:"served,omitempty"`
	Anchor      anchor        `json:"anchor"`
}

// renew is the command that gets the certificate anew.
func (c Check) renew(p certParams) string { return "phoenix cert renew " + p.CommonName }

func runCertFiles(_ context.Context, h host.Host, c Check, p certParams) Result {
	cert, err := h.ReadFile(p.CertPath)
	if errors.Is(err, fs.ErrNotExist) {
		return c.fail("the certificate has not been issued", p.CertPath+" does not exist", c.apply())
	}
	if err != nil {
		return c.fail("the certificate cannot be read", err.Error(), c.apply())
	}
	key, err := h.ReadFile(p.KeyPath)
	if err != nil {
		return c.fail("the certificate's key cannot be read", err.Error(), c.apply())
	}
	if _, err := parseCerts(cert); err != nil {
		return c.fail("the certificate is damaged", p.CertPath+": "+err.Error(), c.renew(p))
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		// The error's words are the standard library's own and hold nothing of the key.
		return c.fail("the key is not the certificate's", p.KeyPath+": "+err.Error(), c.renew(p))
	}
	return c.pass("certificate and key are there and belong together", p.CertPath)
}

func runCertChain(ctx context.Context, h host.Host, c Check, p certParams) Result {
	chain, err := readCerts(h, p.CertPath)
	if err != nil {
		return c.fail("the chain cannot be read", err.Error(), c.apply())
	}
	roots, err := p.Anchor.pool(ctx, h)
	if err != nil {
		return c.fail("the chain cannot be verified", err.Error(), c.apply())
	}
	// The lifetime is another check's: here the chain is judged at a time at which the leaf is valid.
	now := h.Now()
	if now.After(chain[0].NotAfter) {
		now = chain[0].NotAfter
	} else if now.Before(chain[0].NotBefore) {
		now = chain[0].NotBefore
	}
	if err := verifyChain(chain, roots, "", now); err != nil {
		return c.fail("the chain does not lead to the pinned root", err.Error(), c.renew(p))
	}
	return c.pass("the chain leads to the pinned root",
		fmt.Sprintf("%d certificates, issued by %q", len(chain), chain[0].Issuer.CommonName))
}

func runCertNames(_ context.Context, h host.Host, c Check, p certParams) Result {
	chain, err := readCerts(h, p.CertPath)
	if err != nil {
		return c.fail("the names cannot be read", err.Error(), c.apply())
	}
	have := chain[0].DNSNames
	if missing := without(p.DNSNames, have); len(missing) > 0 {
		return c.fail("names are missing: "+strings.Join(missing, " "), "it has "+strings.Join(have, " "), c.apply())
	}
	if more := without(have, p.DNSNames); len(more) > 0 {
		return c.fail("it has names that it should not: "+strings.Join(more, " "),
			"wanted "+strings.Join(p.DNSNames, " "), c.apply())
	}
	return c.pass("it has exactly its names", strings.Join(have, " "))
}

// without is what of a is not in b.
func without(a, b []string) []string {
	var out []string
	for _, v := range a {
		if !slices.Contains(b, v) {
			out = append(out, v)
		}
	}
	return out
}

func runCertLifetime(_ context.Context, h host.Host, c Check, p certParams) Result {
	chain, err := readCerts(h, p.CertPath)
	if err != nil {
		return c.fail("the lifetime cannot be read", err.Error(), c.apply())
	}
	leaf := chain[0]
	window := time.Duration(p.RenewBefore)
	if window == 0 {
		window = leaf.NotAfter.Sub(leaf.NotBefore) / 3
	}
	fix := c.renew(p) + "; why it was not renewed: " + c.inside("journalctl -n 50 -u "+DaemonUnit)
	return judge(c, leaf, window, h.Now(), fix)
}

// judge compares a certificate's lifetime with its renewal, which is due window before the end. A quarter of the window
// is left for jitter and for a CA that was away for a while.
func judge(c Check, leaf *x509.Certificate, window time.Duration, now time.Time, fix string) Result {
	left, due := leaf.NotAfter.Sub(now), leaf.NotAfter.Add(-window).Sub(now)
	switch {
	case now.Before(leaf.NotBefore):
		return c.fail("the certificate is not valid yet", "valid in "+human(leaf.NotBefore.Sub(now)), dateFix)
	case left < 0:
		return c.fail("the certificate has expired", expiry(left), fix)
	case due < -window/4:
		return c.fail("the certificate was not renewed in time",
			fmt.Sprintf("%s (renewal was due %s ago)", expiry(left), human(due)), fix)
	case due < 0:
		return c.pass("the certificate is valid",
			fmt.Sprintf("%s (renewal has been due for %s)", expiry(left), human(due)))
	}
	return c.pass("the certificate is valid", fmt.Sprintf("%s (renewal in %s)", expiry(left), human(due)))
}

func runCertServed(ctx context.Context, h host.Host, c Check, p certParams) Result {
	chain, err := readCerts(h, p.CertPath)
	if err != nil {
		return c.fail("the certificate cannot be read", err.Error(), c.apply())
	}
	e := endpoint{Dial: local(p.Served), Name: p.CommonName}
	conn, err := dialTLS(ctx, h, e)
	if err != nil {
		return c.fail("nobody serves the certificate at "+e.Dial, err.Error(), c.apply())
	}
	defer conn.Close()
	served, disk := conn.chain[0], chain[0]
	if !bytes.Equal(served.Raw, disk.Raw) {
		evidence := fmt.Sprintf("served serial %s from %q, on disk %s", serial(served), served.Issuer.CommonName,
			serial(disk))
		return c.fail("another certificate is served than the one on disk", evidence, c.apply())
	}
	return c.pass("the certificate on disk is the one that is served",
		fmt.Sprintf("serial %s at %s", serial(served), e.Dial))
}

// serial is a certificate's, as openssl shows it.
func serial(c *x509.Certificate) string { return issued.Serial(c.SerialNumber.Text(16)) }

// servedParams is a certificate that a server gets for itself, seen only as it is served.
type servedParams struct {
	Server endpoint `json:"server"`
	Anchor anchor   `json:"anchor"`
}

func runCertRoute(ctx context.Context, h host.Host, c Check, p servedParams) Result {
	roots, err := p.Anchor.pool(ctx, h)
	if err != nil {
		return c.fail("the certificate served for "+p.Server.Name+" cannot be verified", err.Error(), c.apply())
	}
	conn, err := dialTLS(ctx, h, p.Server)
	if err != nil {
		return c.fail("no certificate is served for "+p.Server.Name, err.Error(), c.apply())
	}
	defer conn.Close()
	leaf := conn.chain[0]
	if err := conn.verify(roots, h.Now()); err != nil {
		evidence := fmt.Sprintf("%v; issued by %q, %s", err, leaf.Issuer.CommonName, expiry(leaf.NotAfter.Sub(h.Now())))
		return c.fail("the certificate served for "+p.Server.Name+" does not verify", evidence, c.apply())
	}
	r := judge(c, leaf, traefikWindow(leaf.NotAfter.Sub(leaf.NotBefore)), h.Now(), c.apply())
	r.Summary += " for " + p.Server.Name
	return r
}

// traefikWindow is how long before the end Traefik renews (getCertificateRenewDurations in its pkg/provider/acme, which
// goes by whole hours; step-ca's certificates last a minute longer than asked for, since they begin a minute early).
func traefikWindow(life time.Duration) time.Duration {
	const day = 24 * time.Hour
	switch {
	case life >= 365*day:
		return 120 * day
	case life >= 90*day:
		return 30 * day
	case life >= 30*day:
		return 10 * day
	case life >= 6*day:
		return 2 * day
	case life >= day:
		return 6 * time.Hour
	}
	return min(20*time.Minute, life/3) // the last ones it renews whenever it looks, once a minute
}
