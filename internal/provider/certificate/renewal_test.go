package certificate

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// When a certificate is renewed hangs on its name and its serial. An object that is called otherwise renews nothing.
func TestRenewalDoesNotMoveWithTheObjectsName(t *testing.T) {
	day := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(17), NotBefore: day, NotAfter: day.Add(24 * time.Hour)}
	s := spec.Certificate{CommonName: "www.test.internal"}
	at := renewAt(leaf, s, "certificate/101/www.test.internal")
	// as it was when the object had the certificate's name
	if want := time.Date(2026, 1, 2, 18, 54, 17, 0, time.UTC); !at.Equal(want) {
		t.Errorf("%s, want %s", at, want)
	}
	if other := renewAt(leaf, s, "certificate/101/gateway"); !other.Equal(at) {
		t.Errorf("renewed at %s, as an object of another name at %s", at, other)
	}
	if other := renewAt(leaf, s, "certificate/201/www.test.internal"); other.Equal(at) {
		t.Error("containers renew together")
	}
}
