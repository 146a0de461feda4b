package certificate

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

// A certificate whose key others could read is replaced by one with another key, though nothing else is wrong with it.
func TestLeakedKeyIsReplaced(t *testing.T) {
	sandbox.Need(t)
	h, s := &host.Local{}, specIn(room(t), sandbox.StartCA(t, time.Hour, "a.test.internal", "b.test.internal"))
	before := made(t, h, s)
	raw, err := os.ReadFile(s.CertPath)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s.Leaked = []string{strings.Repeat("0", 64), keyDigest(leaf)}
	if st, d := look(t, h, s); !d.Has(fieldCertificate) || !strings.Contains(st.Problem, "others could read its key") {
		t.Fatalf("a leaked key is taken: %+v %+v", st, d)
	}
	after := made(t, h, s)
	if after.Serial == before.Serial {
		t.Error("the same certificate")
	}
}
