package issued

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// issuer is a CA that lasts as long as the tests.
func issuer(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"},
		NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(99 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func leaf(t *testing.T, ca *x509.Certificate, key *ecdsa.PrivateKey, serial int64, end time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{fmt.Sprintf("n%d.x", serial)},
		NotBefore: noon.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Certificates are found wherever they lie, over the edges of the windows too; those of other issuers and what is over
// are not.
func TestCarve(t *testing.T) {
	ca, key := issuer(t)
	other, otherKey := issuer(t)
	file := bytes.Repeat([]byte{0x30, 0x82, 0xff, 0xff, 0x30}, 700_000) // looks like the beginning of one, everywhere
	places := []int{0, 5000, 1<<20 - 16<<10 - 1, 1<<20 - 1, 1<<20 + 16<<10 - 1, 2<<20 - 300, 3_000_000}
	for i, at := range places {
		copy(file[at:], leaf(t, ca, key, int64(100+i), noon.Add(time.Hour)))
	}
	copy(file[2_500_000:], leaf(t, other, otherKey, 7, noon.Add(time.Hour)))
	copy(file[2_600_000:], leaf(t, ca, key, 8, noon.Add(-time.Second)))
	last := leaf(t, ca, key, 99, noon.Add(time.Hour))
	file = append(file, last...)
	c := newCollection(noon)
	if err := carve(bytes.NewReader(file), []*x509.Certificate{ca}, c); err != nil {
		t.Fatal(err)
	}
	var serials []string
	for _, x := range c.list().Certificates {
		serials = append(serials, x.Serial)
	}
	slices.Sort(serials)
	if want := []string{"63", "64", "65", "66", "67", "68", "69", "6a"}; !slices.Equal(serials, want) {
		t.Errorf("got %v, want %v", serials, want)
	}
}

// A flood of certificates for one name hides none for another, and is counted.
func TestFlood(t *testing.T) {
	c := newCollection(noon)
	for i := range 5000 {
		c.add(Certificate{Serial: fmt.Sprint(i), Names: []string{"app.x"}, NotAfter: noon.Add(time.Hour)})
		c.add(Certificate{Serial: fmt.Sprint(i), Names: []string{"app.x"}, NotAfter: noon.Add(time.Hour)})
	}
	c.add(Certificate{Serial: "www", Names: []string{"www.x"}, NotAfter: noon.Add(time.Hour)})
	l := c.list()
	if len(l.Certificates) != sameNames+1 || l.More["app.x"] != 5000-sameNames ||
		!slices.ContainsFunc(l.Certificates, func(x Certificate) bool { return x.Serial == "www" }) {
		t.Errorf("%d told, %v more", len(l.Certificates), l.More)
	}
}

// Certificates under a root that nobody trusts any more are of no use to anybody.
func TestWorthless(t *testing.T) {
	c := newCollection(noon)
	c.roots = []string{"aa"}
	for _, root := range []string{"aa", "bb", ""} {
		c.add(Certificate{Serial: "1" + root, Names: []string{"www.x"}, NotAfter: noon.Add(time.Hour), Root: root})
	}
	if l := c.list(); len(l.Certificates) != 2 {
		t.Errorf("%+v", l)
	}
}

// Traefik's storage tells its account and certificates, and beside it those of before.
func TestHoldStorage(t *testing.T) {
	ca, caKey := issuer(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := x509.MarshalPKCS1PrivateKey(key)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf(t, ca, caKey, 0x1f, noon.Add(time.Hour))})
	path := filepath.Join(t.TempDir(), "acme.json")
	write := func(path string, v any) {
		text, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(path, map[string]any{"phoenix": map[string]any{
		"Account": map[string]any{"PrivateKey": der}, "Certificates": []any{map[string]any{"certificate": chain}},
	}})
	write(path+FormerAccounts, []string{print43("o")})
	got := Hold(Places{Storages: []string{path, "/does/not/exist"}})
	want := []string{Thumbprint(der), print43("o")}
	slices.Sort(want)
	if !slices.Equal(got.Accounts, want) || !slices.Equal(got.Serials, []string{"1f"}) {
		t.Errorf("got %+v, want %v", got, want)
	}
}

// RFC 7638, section 3.1, has this key and its thumbprint.
func TestThumbprint(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	if got := thumbprint(json.RawMessage(`{"kty":"RSA","n":"` + n +
		`","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`)); got != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Error(got)
	}
	for _, bad := range []string{"", "null", "{}", `{"kty":"oct","k":"x"}`, "[1]"} {
		if got := thumbprint(json.RawMessage(bad)); got != "" {
			t.Errorf("%s has %s", bad, got)
		}
	}
}
