package certificate

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

const addr = object.Address("certificate/101/a.test.internal")

// room is an empty machine's directories for one certificate.
func room(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "room")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func specIn(dir string, ca *sandbox.CA) spec.Certificate {
	return spec.Certificate{
		CommonName: "a.test.internal", DNSNames: []string{"a.test.internal", "b.test.internal"}, KeyType: "ec-p256",
		ACME: spec.ACME{Directory: ca.Directory, RootFile: ca.RootFile}, Fingerprint: ca.Fingerprint,
		AccountDir: filepath.Join(dir, "account"), CertPath: filepath.Join(dir, "ssl", "tls.crt"),
		KeyPath: filepath.Join(dir, "ssl", "tls.key"),
		Mode:    0o600, Challenge: spec.HTTP01,
	}
}

func asObject(t *testing.T, s spec.Certificate) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: addr, Provider: "certificate", Host: "101", Spec: raw}
}

func look(t *testing.T, h host.Host, s spec.Certificate) (*Status, plan.Delta) {
	t.Helper()
	st, err := Driver{}.Observe(context.Background(), h, addr, s)
	if err != nil {
		t.Fatal(err)
	}
	return st, Driver{}.Diff(s, st)
}

func apply(h host.Host, s spec.Certificate, d plan.Delta) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return Driver{}.Apply(ctx, h, addr, s, d)
}

// made makes the certificate true and demands that nothing is left to do.
func made(t *testing.T, h host.Host, s spec.Certificate) *Status {
	t.Helper()
	if _, d := look(t, h, s); !d.Empty() {
		if err := apply(h, s, d); err != nil {
			t.Fatal(err)
		}
	}
	st, d := look(t, h, s)
	if !d.Empty() {
		t.Fatalf("still to do: %+v", d)
	}
	return st
}

// shifted is a host whose clock is off.
type shifted struct {
	host.Host
	by time.Duration
}

func (s shifted) Now() time.Time { return s.Host.Now().Add(s.by) }
