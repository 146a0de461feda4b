package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// authority is one step-ca with its keys in a directory of their own, so that
// only the database stands on the file system under test.
type authority struct {
	stepCA, config, url string
	httpPort            int
	roots               *x509.CertPool
	log                 string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// newAuthority writes keys and ca.json below dir; the database goes to data.
func newAuthority(stepCA, dir, dbType, data string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	httpPort, err := freePort()
	if err != nil {
		return nil, err
	}
	a := &authority{stepCA: stepCA, config: filepath.Join(dir, "ca.json"), httpPort: httpPort,
		url: fmt.Sprintf("https://127.0.0.1:%d", port), log: filepath.Join(dir, "log")}
	if a.roots, err = mintCA(dir); err != nil {
		return nil, err
	}
	cfg, err := json.Marshal(map[string]any{
		"root": dir + "/root.crt", "crt": dir + "/root.crt", "key": dir + "/root.key",
		"address": fmt.Sprintf("127.0.0.1:%d", port), "dnsNames": []string{"127.0.0.1"},
		"db": map[string]string{"type": dbType, "dataSource": data},
		"authority": map[string]any{"provisioners": []any{
			map[string]any{"type": "ACME", "name": "acme", "challenges": []string{"http-01"}}}},
	})
	if err != nil {
		return nil, err
	}
	return a, os.WriteFile(a.config, cfg, 0o600)
}

// on is the same authority with its database elsewhere.
func (a *authority) on(data string) (*authority, error) {
	raw, err := os.ReadFile(a.config)
	if err != nil {
		return nil, err
	}
	var cfg map[string]any
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, err
	}
	cfg["db"].(map[string]any)["dataSource"] = data
	if raw, err = json.Marshal(cfg); err != nil {
		return nil, err
	}
	b := &authority{stepCA: a.stepCA, config: a.config + ".copy", url: a.url, httpPort: a.httpPort,
		roots: a.roots, log: a.log}
	return b, os.WriteFile(b.config, raw, 0o600)
}

// mintCA makes one self-signed CA that issues leaves directly.
func mintCA(dir string) (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "measurement"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(48 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(dir+"/root.crt", cert, 0o600); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool, os.WriteFile(dir+"/root.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}),
		0o600)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// client trusts the authority under test only.
func (a *authority) client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16,
		TLSClientConfig: &tls.Config{RootCAs: a.roots}}}
}

// start runs step-ca and waits until it answers or has ended.
func (a *authority) start(ctx context.Context, limit time.Duration) error {
	out, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(a.stepCA, a.config, "--insecure", "--acme-http-port", strconv.Itoa(a.httpPort))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	a.mu.Lock()
	a.cmd, a.done = cmd, done
	a.mu.Unlock()
	return a.await(ctx, done, limit)
}

func (a *authority) await(ctx context.Context, done chan struct{}, limit time.Duration) error {
	deadline := time.After(limit)
	for {
		if resp, err := a.client().Get(a.url + "/health"); err == nil {
			resp.Body.Close()
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("step-ca ended: %s", a.lastLine())
		case <-deadline:
			return fmt.Errorf("step-ca did not answer within %s: %s", limit, a.lastLine())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// alive says whether the process still runs.
func (a *authority) alive() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

// end sends the signal and waits; a process that ignores it is killed.
func (a *authority) end(sig syscall.Signal) {
	a.mu.Lock()
	cmd, done := a.cmd, a.done
	a.mu.Unlock()
	_ = cmd.Process.Signal(sig)
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
}

// lastLine is the last line step-ca wrote, which says why it ended.
func (a *authority) lastLine() string {
	raw, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[len(lines)-1]
}

// memory reads resident figures of the process in MiB.
func (a *authority) memory() map[string]int {
	out := map[string]int{}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		return out
	}
	for _, line := range strings.Split(string(raw), "\n") {
		f := strings.Fields(line)
		if len(f) == 3 && (f[0] == "VmHWM:" || f[0] == "VmRSS:" || f[0] == "RssAnon:") {
			kib, _ := strconv.Atoi(f[1])
			out[strings.TrimSuffix(f[0], ":")] = kib / 1024
		}
	}
	return out
}
