package health

import (
	"io/fs"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const (
	siteName   = "web.test"
	serverDial = "127.0.0.1:443"
)

// onDisk is a certificate in its files with the root beside it. Another one may be changed into before it is written.
type onDisk struct {
	from, to    time.Duration
	names       []string
	chainless   bool
	foreign     bool // issued by another CA
	otherKey    bool
	cert        string // content instead of the certificate's
	served      string // web: the same is served; other: another; empty: nobody listens
	renewBefore time.Duration
}

func (d onDisk) set(t *testing.T, h *fakeHost) any {
	h.clock = func() time.Time { return now }
	ca := newAuthority(t)
	pinned := ca.root
	if d.foreign {
		pinned = newAuthority(t).root
	}
	if d.to == 0 {
		d.from, d.to = -time.Hour, 23*time.Hour
	}
	if d.names == nil {
		d.names = []string{siteName, "www.test"}
	}
	leaf := ca.leaf(d.from, d.to, d.names...)
	d.write(t, h, ca, leaf)
	h.put("/root.pem", 0o644, 0, 0, pemOf(pinned))
	return certParams{
		CommonName: siteName, DNSNames: []string{siteName, "www.test"}, CertPath: "/c.pem", KeyPath: "/k.pem",
		RenewBefore: spec.Duration(d.renewBefore), Served: ":443",
		Anchor: anchor{Fingerprint: fingerprint(pinned), File: "/root.pem"},
	}
}

func (d onDisk) write(t *testing.T, h *fakeHost, ca *authorityFake, leaf leafFake) {
	text, key := pemOf(leaf.chain...), keyPEM(t, leaf.key)
	if d.chainless {
		text = pemOf(leaf.chain[0])
	}
	if d.otherKey {
		key = keyPEM(t, newKey(t))
	}
	if d.cert != "" {
		text = d.cert
	}
	h.put("/c.pem", 0o644, 0, 0, text)
	h.put("/k.pem", 0o600, 0, 0, key)
	switch d.served {
	case "web":
		h.dials["tcp "+serverDial] = serve(t, leaf, replies(200, ""))
	case "other":
		h.dials["tcp "+serverDial] = serve(t, ca.fresh(siteName), replies(200, ""))
	}
}

// gone is a certificate of which one file is missing.
func gone(name string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		p := onDisk{}.set(t, h)
		delete(h.files, name)
		return p
	}
}

// traefikServes is a proxy's certificate as it is served.
func traefikServes(name string, from, to time.Duration) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		ca := newAuthority(t)
		h.put("/root.pem", 0o644, 0, 0, pemOf(ca.root))
		if name != "" {
			h.dials["tcp "+serverDial] = serve(t, ca.leaf(from, to, name), replies(200, ""))
		}
		return servedParams{endpoint{serverDial, siteName},
			anchor{Fingerprint: fingerprint(ca.root), File: "/root.pem"}}
	}
}

func certificateCases() []runCase {
	h := time.Hour
	return []runCase{
		{kindCertFiles, "there", onDisk{}.set, Pass, "/c.pem"},
		{kindCertFiles, "not issued", gone("/c.pem"), Fail, "has not been issued"},
		{kindCertFiles, "no key", gone("/k.pem"), Fail, "key cannot be read"},
		{kindCertFiles, "damaged", onDisk{cert: "garbage"}.set, Fail, "damaged"},
		{kindCertFiles, "another's key", onDisk{otherKey: true}.set, Fail, "not the certificate's"},
		{kindCertChain, "verified", onDisk{}.set, Pass, `2 certificates, issued by "Test Intermediate"`},
		{kindCertChain, "expired is another check's", onDisk{from: -9 * h, to: -h}.set, Pass, "2 certificates"},
		{kindCertChain, "no intermediate", onDisk{chainless: true}.set, Fail, "unknown authority"},
		{kindCertChain, "another CA", onDisk{foreign: true}.set, Fail, "unknown authority"},
		{kindCertChain, "no root", gone("/root.pem"), Fail, "cannot be verified"},
		{kindCertChain, "no file", gone("/c.pem"), Fail, "cannot be read"},
		{kindCertNames, "exact", onDisk{}.set, Pass, "web.test www.test"},
		{kindCertNames, "missing", onDisk{names: []string{siteName}}.set, Fail, "names are missing: www.test"},
		{kindCertNames, "more", onDisk{names: []string{siteName, "www.test", "x.test"}}.set, Fail,
			"should not: x.test"},
		{kindCertNames, "no file", gone("/c.pem"), Fail, "cannot be read"},
		{kindCertLifetime, "young", onDisk{}.set, Pass, "expires in 23h0m (renewal in 15h0m)"},
		{kindCertLifetime, "due", onDisk{from: -17 * h, to: 7 * h}.set, Pass, "renewal has been due for 1h0m"},
		{kindCertLifetime, "late", onDisk{from: -20*h - 48*time.Minute, to: 3*h + 12*time.Minute}.set, Fail,
			"expires in 3h12m (renewal was due 4h48m ago)"},
		{kindCertLifetime, "late by its own rule", onDisk{from: -10 * h, to: 14 * h, renewBefore: 20 * h}.set, Fail,
			"due 6h0m ago"},
		{kindCertLifetime, "expired", onDisk{from: -25 * h, to: -h}.set, Fail, "expired 1h0m ago"},
		{kindCertLifetime, "future", onDisk{from: h, to: 25 * h}.set, Fail, "valid in 1h0m"},
		{kindCertLifetime, "no file", gone("/c.pem"), Fail, "cannot be read"},
		{kindCertServed, "same", onDisk{served: "web"}.set, Pass, "at 127.0.0.1:443"},
		{kindCertServed, "other", onDisk{served: "other"}.set, Fail, "served serial"},
		{kindCertServed, "nobody", onDisk{}.set, Fail, "connection refused"},
		{kindCertServed, "no file", gone("/c.pem"), Fail, "cannot be read"},
		{kindCertRoute, "right", traefikServes(siteName, -h, 23*h), Pass, "for web.test | expires in"},
		{kindCertRoute, "default certificate", traefikServes("traefik.default", -h, 23*h), Fail, "not web.test"},
		{kindCertRoute, "late", traefikServes(siteName, -20*h, 4*h), Fail, "not renewed in time"},
		{kindCertRoute, "expired", traefikServes(siteName, -20*h, -h), Fail, "expired 1h"},
		{kindCertRoute, "nobody", traefikServes("", 0, 0), Fail, "no certificate is served"},
		{kindCertRoute, "no root", func(t *testing.T, h *fakeHost) any {
			p := traefikServes(siteName, -time.Hour, 23*time.Hour)(t, h)
			h.put("/root.pem", fs.FileMode(0), 0, 0, "")
			return p
		}, Fail, "cannot be verified"},
	}
}
