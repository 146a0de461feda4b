package certificate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// silentCA takes connections, and never has an answer.
func silentCA(t *testing.T, dir string) spec.Certificate {
	t.Helper()
	done := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(func() { close(done); server.Close() })
	cert := server.Certificate()
	file := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.Raw)
	return spec.Certificate{
		CommonName: "a.test.internal", DNSNames: []string{"a.test.internal"}, KeyType: "ec-p256", Mode: 0o600,
		Challenge:   spec.HTTP01,
		ACME:        spec.ACME{Directory: server.URL + "/acme/acme/directory", RootFile: file},
		Fingerprint: hex.EncodeToString(sum[:]),
		AccountDir:  filepath.Join(dir, "account"), CertPath: filepath.Join(dir, "ssl", "tls.crt"),
		KeyPath: filepath.Join(dir, "ssl", "tls.key"),
	}
}

// An order has one bound, wherever it hangs; what it was is said, with what to look at, and its key is not left behind.
func TestOrderIsBounded(t *testing.T) {
	dir := room(t)
	s := silentCA(t, dir)
	s.OrderTimeout = spec.Duration(300 * time.Millisecond)
	start := time.Now()
	err := Driver{}.Apply(context.Background(), &host.Local{}, addr, s, ordering())
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if err == nil || !strings.Contains(err.Error(), "has not issued it within 300ms") || provider.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
	if hint := provider.Hint(err); !strings.Contains(hint, "a.test.internal, at port 80") ||
		!strings.Contains(hint, "step_ca.order_timeout") {
		t.Errorf("hint %q", hint)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "ssl", "tls.key.d", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Who asks for the end of the work does not wait for the CA.
func TestOrderIsGivenUp(t *testing.T) {
	s := silentCA(t, room(t))
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	start := time.Now()
	err := Driver{}.Apply(ctx, &host.Local{}, addr, s, ordering())
	if took := time.Since(start); err == nil || took > 10*time.Second {
		t.Errorf("it took %s: %v", took, err)
	}
}

// ordering is the difference that makes Apply order a certificate.
func ordering() plan.Delta {
	var d plan.Delta
	d.Compare(fieldCertificate, "missing", "issued")
	return d
}
