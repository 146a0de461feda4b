package stepca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/stepca"
)

const oldWord = "an old password"

// oldAuthority is the directory of a CA that another tool made, its root pinned: two roots with their keys, one of them
// ours.
func oldAuthority(t *testing.T, form func(*testing.T, *ecdsa.PrivateKey) *pem.Block) spec.StepCA {
	t.Helper()
	needRoot(t)
	s := caSpec(t)
	s.Import = filepath.Join(filepath.Dir(s.Dir), "old")
	write := func(name string, data []byte) {
		path := filepath.Join(s.Import, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, data, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"another", "root"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour),
			NotAfter:  time.Now().AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		write("certs/"+name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if b := form(t, key); b != nil {
			write("secrets/"+name+"_key", pem.EncodeToMemory(b))
		}
		sum := sha256.Sum256(der)
		s.Pinned = hex.EncodeToString(sum[:])
	}
	write("wrong.txt", []byte("not it\n"))
	write("words.txt", []byte(oldWord+"\n"))
	return s
}

// step's own form of a key, RFC 1423.
func sealedOld(t *testing.T, key *ecdsa.PrivateKey) *pem.Block {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 old tools write it so
	b, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte(oldWord), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func plainOld(t *testing.T, key *ecdsa.PrivateKey) *pem.Block {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
}

// The pinned root is taken in with its key, whatever the files are called; everything else is new.
func TestOldRootIsTakenIn(t *testing.T) {
	for name, form := range map[string]func(*testing.T, *ecdsa.PrivateKey) *pem.Block{
		"encrypted": sealedOld, "plain": plainOld} {
		t.Run(name, func(t *testing.T) {
			s := oldAuthority(t, form)
			st := converge(t, &host.Local{}, s)
			if st.RootFingerprint != s.Pinned {
				t.Errorf("the root is %s, pinned is %s", st.RootFingerprint, s.Pinned)
			}
			if err := os.RemoveAll(s.Import); err != nil {
				t.Fatal(err)
			}
			s.Import = ""
			if again := converge(t, &host.Local{}, s); again.RootFingerprint != s.Pinned ||
				again.IntermediateFingerprint != st.IntermediateFingerprint {
				t.Errorf("without the old files it is another CA: %+v", again)
			}
		})
	}
}

// What cannot be taken in is refused, and no other root is made.
func TestOldRootIsRefused(t *testing.T) {
	none := func(*testing.T, *ecdsa.PrivateKey) *pem.Block { return nil }
	other := hex.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct {
		form   func(*testing.T, *ecdsa.PrivateKey) *pem.Block
		change func(*spec.StepCA)
	}{
		"no key":      {none, func(*spec.StepCA) {}},
		"other root":  {sealedOld, func(s *spec.StepCA) { s.Pinned = other }},
		"not pinned":  {sealedOld, func(s *spec.StepCA) { s.Pinned = "" }},
		"no password": {sealedOld, func(s *spec.StepCA) { _ = os.Remove(filepath.Join(s.Import, "words.txt")) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := oldAuthority(t, c.form)
			c.change(&s)
			err := (stepca.Driver{}).Apply(t.Context(), &host.Local{}, address, s, plan.Delta{})
			if !provider.IsPermanent(err) {
				t.Errorf("want a permanent error, got %v", err)
			}
			if _, err := os.Lstat(filepath.Join(s.Dir, "secrets", "root")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a root was made: %v", err)
			}
		})
	}
}
