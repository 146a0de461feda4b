package health

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// constrainedRoot is a root with name constraints, as PEM.
func constrainedRoot(t *testing.T, domains []string, subnets ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, PermittedDNSDomains: domains}
	for _, s := range subnets {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		c.PermittedIPRanges = append(c.PermittedIPRanges, n)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func rootPermitsCases() []runCase {
	with := func(file func(t *testing.T) string, names ...string) func(*testing.T, *fakeHost) any {
		return func(t *testing.T, h *fakeHost) any {
			if file != nil {
				h.put("/ca/certs/root_ca.crt", 0o644, 0, 0, file(t))
			}
			return rootPermits{Dir: "/ca", Names: names}
		}
	}
	lab := func(t *testing.T) string { return constrainedRoot(t, []string{"lab.internal"}, "10.0.0.0/24") }
	return []runCase{
		{kindRootPermits, "all", with(lab, "lab.internal", "app.lab.internal", "10.0.0.7"), Pass,
			"lab.internal 10.0.0.0/24"},
		{kindRootPermits, "no constraints", with(func(t *testing.T) string { return constrainedRoot(t, nil) },
			"a.example", "192.0.2.1"), Pass, "it has no name constraints"},
		{kindRootPermits, "another zone", with(lab, "app.lab.internal", "shop.example", "notlab.internal"), Fail,
			"forbids 2 names of the file | shop.example notlab.internal; it permits"},
		{kindRootPermits, "another subnet", with(lab, "10.0.1.7"), Fail, "10.0.1.7"},
		{kindRootPermits, "an old root beside", with(func(t *testing.T) string {
			return lab(t) + constrainedRoot(t,
				nil)
		}, "shop.example"), Fail, "shop.example"},
		{kindRootPermits, "no root", with(nil, "a.example"), Skip, "root_ca.crt"},
		{kindRootPermits, "damaged", with(func(*testing.T) string { return "?" }, "a.example"), Skip, "no PEM"},
	}
}
