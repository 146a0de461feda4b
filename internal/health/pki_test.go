package health

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// authorityFake is a root and an intermediate.
type authorityFake struct {
	t             *testing.T
	root, between *x509.Certificate
	rootKey, key  crypto.Signer
	serial        int64
	betweenLife   time.Duration
}

func newAuthority(t *testing.T) *authorityFake {
	ca := &authorityFake{t: t, serial: 1000, betweenLife: 10 * 365 * 24 * time.Hour}
	ca.mint()
	return ca
}

func (ca *authorityFake) mint() {
	ca.rootKey, ca.key = newKey(ca.t), newKey(ca.t)
	root := ca.template("Test Root", -time.Hour, 20*365*24*time.Hour)
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	ca.root = ca.sign(root, root, ca.rootKey.Public(), ca.rootKey)
	between := ca.template("Test Intermediate", -time.Hour, ca.betweenLife)
	between.IsCA, between.BasicConstraintsValid, between.KeyUsage = true, true, x509.KeyUsageCertSign
	ca.between = ca.sign(between, ca.root, ca.key.Public(), ca.rootKey)
}

func newKey(t *testing.T) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (ca *authorityFake) template(name string, from, to time.Duration) *x509.Certificate {
	ca.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(from), NotAfter: now.Add(to),
	}
}

func (ca *authorityFake) sign(c, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		ca.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return out
}

// leafFake is a server's certificate with its key.
type leafFake struct {
	chain []*x509.Certificate
	key   crypto.Signer
}

// leaf issues for names, valid from and to relative to now.
func (ca *authorityFake) leaf(from, to time.Duration, names ...string) leafFake {
	c := ca.template(names[0], from, to)
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
			continue
		}
		c.DNSNames = append(c.DNSNames, n)
	}
	c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	key := newKey(ca.t)
	return leafFake{[]*x509.Certificate{ca.sign(c, ca.between, key.Public(), ca.key), ca.between}, key}
}

// fresh is a leaf in the first hour of its day.
func (ca *authorityFake) fresh(names ...string) leafFake {
	return ca.leaf(-time.Hour, 23*time.Hour, names...)
}

func pemOf(certs ...*x509.Certificate) string {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}

func keyPEM(t *testing.T, key crypto.Signer) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// serve runs an HTTPS server with the leaf on loopback and gives its address.
func serve(t *testing.T, l leafFake, h http.Handler) string {
	cert := tls.Certificate{PrivateKey: l.key}
	for _, c := range l.chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // checks hang up after the handshake
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// replies answers every path with a status and a body.
func replies(code int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	})
}

// listen takes connections and does nothing with them.
func listen(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
