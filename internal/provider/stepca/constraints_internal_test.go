package stepca

import (
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func constrained() spec.StepCA {
	return spec.StepCA{RootName: "Test Root", IntermediateName: "Test Intermediate",
		DNSNames:     []string{"ca.lab.internal", "10.0.0.10", "127.0.0.1"},
		AllowedNames: []string{"app.lab.internal", "shop.example"}, Domains: []string{"lab.internal",
			"shop.example"}, Addresses: []string{"10.0.0.10", "127.0.0.1"},
		RootPermits: []string{"10.0.0.0/24", "later.example"}, RootLifetime: spec.Duration(time.Hour),
		IntermediateLife: spec.Duration(time.Hour)}
}

// chainOf is a root as the driver makes it, and an intermediate under it that somebody who has the root's key made
// without any limits.
func chainOf(t *testing.T, s spec.StepCA) (root, stolen pair) {
	t.Helper()
	root, err := mintRoot(&host.Local{}, layout(t.TempDir()), s)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := template("Anything", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := sign(tmpl, root.cert, key, root.key)
	if err != nil {
		t.Fatal(err)
	}
	return root, pair{cert: cert, key: key}
}

// verifies tells whether Go and, where it is here, OpenSSL take a certificate for the name; that they do not agree is
// an error.
func verifies(t *testing.T, root, issuer pair, name string) bool {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := template("a "+
		"leaf", time.Now(), time.Hour) // no host name: OpenSSL takes one for a name, where there is no other
	if err != nil {
		t.Fatal(err)
	}
	tmpl.IsCA, tmpl.KeyUsage, tmpl.ExtKeyUsage = false, x509.KeyUsageDigitalSignature,
		[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{name}
	}
	leaf, err := sign(tmpl, issuer.cert, key, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.cert)
	between.AddCert(issuer.cert)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	if _, missing := exec.LookPath("openssl"); missing != nil {
		return err == nil
	}
	dir := t.TempDir()
	for file, c := range map[string]*x509.Certificate{"root": root.cert, "between": issuer.cert, "leaf": leaf} {
		if err := os.WriteFile(filepath.Join(dir, file), encodeCert(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, other := exec.Command("openssl", "verify", "-CAfile", filepath.Join(dir, "root"), "-untrusted",
		filepath.Join(dir, "between"), filepath.Join(dir, "leaf")).CombinedOutput()
	if (other == nil) != (err == nil) {
		t.Errorf("%s: Go says %v, OpenSSL %v: %s", name, err, other, out)
	}
	return err == nil
}

// Whoever has the key of a root that stands in browsers can sign for this site and for nothing else.
func TestRootIsConstrained(t *testing.T) {
	root, stolen := chainOf(t, constrained())
	for name, want := range map[string]bool{
		"app.lab.internal": true, "lab.internal": true, "deep.app.lab.internal": true, "shop.example": true,
		"later.example": true, "ca.lab.internal": true,
		"10.0.0.10": true, "10.0.0.200": true, "127.0.0.1": true,
		"bank.example": false, "example": false, "notlab.internal": false, "internal": false, "localhost": false,
		"10.0.1.1": false, "192.168.1.1": false, "127.0.0.2": false, "::1": false, "2001:db8::1": false,
	} {
		if got := verifies(t, root, stolen, name); got != want {
			t.Errorf("%s: %v, want %v (%s)", name, got, want, constraintsIn(root.cert))
		}
	}
	if got := forbids(root.cert, []string{"app.lab.internal", "bank.example", "10.0.0.7", "10.9.9.9",
		"bank.example"}); !slices.Equal(got, []string{"bank.example", "10.9.9.9"}) {
		t.Errorf("forbids %v", got)
	}
	if cert := root.cert; !cert.PermittedDNSDomainsCritical || len(cert.PermittedIPRanges) != 2 ||
		len(cert.ExcludedIPRanges) != 0 {
		t.Errorf("%s, critical %v", constraintsIn(cert), cert.PermittedDNSDomainsCritical)
	}
}

// Everything that the site itself has certificates for verifies under its own intermediate, with each kind of root.
func TestOwnNamesVerify(t *testing.T) {
	for name, change := range map[string]func(*spec.StepCA){
		"constrained": func(*spec.StepCA) {}, "open": func(s *spec.StepCA) { s.RootOpen, s.RootPermits = true, nil },
		"no subnet": func(s *spec.StepCA) { s.RootPermits = nil },
		"localhost": func(s *spec.StepCA) {
			s.AllowedNames, s.Domains = append(s.AllowedNames, "localhost"), append(s.Domains, "localhost")
		},
		"no addresses": func(s *spec.StepCA) { s.DNSNames, s.Addresses, s.RootPermits = s.DNSNames[:1], nil, nil },
	} {
		s := constrained()
		change(&s)
		root, stolen := chainOf(t, s)
		key, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := mintIntermediate(s, root, key, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range append(slices.Clone(s.AllowedNames), s.DNSNames...) {
			if !verifies(t, root, pair{cert: cert, key: key}, n) {
				t.Errorf("%s: %s does not verify", name, n)
			}
		}
		if verifies(t, root, stolen, "bank.example") != s.RootOpen || verifies(t, root, stolen,
			"192.0.2.1") != s.RootOpen {
			t.Errorf("%s: what is not the site's is not as it should be", name)
		}
	}
}

// A name of the CA's own that its root forbids is refused before the intermediate is touched: step-ca would not start
// again.
func TestRootForbidsTheCAsNewAddress(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("files that belong to different users need root")
	}
	s := constrained()
	s.Dir, s.FirstRoot, s.User, s.Address, s.Provisioner, s.Database = filepath.Join(t.TempDir(), "ssl"), true,
		"65534", "127.0.0.1:1", "acme", bbolt
	s.LeafLifetime, s.MaxLeafLifetime = spec.Duration(time.Minute), spec.Duration(time.Minute)
	h := &host.Local{}
	if err := (Driver{}).Apply(t.Context(), h, "stepca/103", s, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(layout(s.Dir).intermediate(), fileCert)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s.DNSNames, s.Addresses = append(s.DNSNames, "10.7.0.10"), append(s.Addresses, "10.7.0.10")
	err = Driver{}.Apply(t.Context(), h, "stepca/103", s, plan.Delta{})
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "cannot be reached as 10.7.0.10") ||
		!strings.Contains(provider.Hint(err), "root_permits") {
		t.Errorf("%v, hint %q", err, provider.Hint(err))
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the intermediate was issued again: %v", err)
	}
}
