package sandbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a root and an intermediate with their keys, as files in a directory.
type Authority struct {
	RootFile    string
	Fingerprint string // of the root
	Root        *x509.Certificate

	t        testing.TB
	dir      string
	inter    *x509.Certificate
	interKey *ecdsa.PrivateKey
}

// NewAuthority makes a new root and an intermediate below it.
func NewAuthority(t testing.TB, dir string) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: dir, RootFile: filepath.Join(dir, "root.crt")}
	rootKey := newKey(t)
	a.interKey = newKey(t)
	a.Root = sign(t, authorityTemplate("Test Root", 1), nil, &rootKey.PublicKey, rootKey)
	a.inter = sign(t, authorityTemplate("Test Intermediate", 0), a.Root, &a.interKey.PublicKey, rootKey)
	a.write("root.crt", 0o644, certPEM(a.Root))
	a.write("intermediate.crt", 0o600, certPEM(a.inter))
	a.write("intermediate.key", 0o600, keyPEM(t, a.interKey))
	sum := sha256.Sum256(a.Root.Raw)
	a.Fingerprint = hex.EncodeToString(sum[:])
	return a
}

// Issue gives a chain and its key, PEM, valid from an hour ago until notAfter.
func (a *Authority) Issue(t testing.TB, notAfter time.Time, names ...string) (chain, key []byte) {
	t.Helper()
	k := newKey(t)
	leaf := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.inter, &k.PublicKey, a.interKey)
	return append(certPEM(leaf), certPEM(a.inter)...), keyPEM(t, k)
}

// Pool holds the root alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Root)
	return p
}

func (a *Authority) write(name string, mode os.FileMode, text []byte) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), text, mode); err != nil {
		a.t.Fatal(err)
	}
}

func authorityTemplate(name string, depth int) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA:     true, BasicConstraintsValid: true, MaxPathLen: depth, MaxPathLenZero: depth == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, public *ecdsa.PublicKey,
	signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = tmpl
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(t testing.TB, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
