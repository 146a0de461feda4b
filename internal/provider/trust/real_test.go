package trust_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// The path and form of what step-ca serves are pinned against the real one.
func TestRootOfARealStepCA(t *testing.T) {
	h := newRooted(t)
	server, fingerprint := startStepCA(t)
	s := spec.Trust{Name: "phoenix-root", Server: server, Fingerprint: fingerprint}
	converge(t, h, s)
	raw, err := h.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	resp, err := client.Get(server + "/health")
	if err != nil {
		t.Fatalf("the store does not verify the CA: %v", err)
	}
	_ = resp.Body.Close()
}

// startStepCA runs a step-ca whose root signs directly, and gives its address and the root's fingerprint.
func startStepCA(t *testing.T) (string, string) {
	t.Helper()
	path := ""
	for _, p := range []string{os.Getenv("PHOENIX_STEP_CA"), "/tmp/step-ca", "/usr/local/bin/step-ca"} {
		if m, err := os.Stat(p); path == "" && p != "" && err == nil && m.Mode().IsRegular() {
			path = p
		}
	}
	if path == "" {
		t.Skip("no step-ca: set PHOENIX_STEP_CA")
	}
	dir := t.TempDir()
	fingerprint := mint(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	config, err := json.Marshal(map[string]any{"root": dir + "/crt", "crt": dir + "/crt", "key": dir + "/key",
		"address":  address,
		"dnsNames": []string{"127.0.0.1"}, "authority": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ca.json"), config)
	cmd := exec.Command(path, dir+"/ca.json")
	cmd.Env = []string{"STEPPATH=" + dir}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return "https://" + address, fingerprint
		}
	}
	t.Fatal("step-ca does not listen")
	return "", ""
}

func mint(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Real"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(72 * time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, dir+"/key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
	return digest(der)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
