package e2e

import (
	"context"

	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// visitor makes requests through the gateway, as one who trusts whatever root is pinned at the moment, until it is told to stop.
type visitor struct {
	h        *Hypervisor
	mu       sync.Mutex // guards what follows
	requests int
	failed   []string
}

// visit asks ten times a second, for the whole time, each time over a connection of its own.
func (h *Hypervisor) visit(roots func() *x509.CertPool) (v *visitor, stop func()) {
	v = &visitor{h: h}
	end := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			v.ask(roots())
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return v, sync.OnceFunc(func() { close(end); all.Wait() })
}

func (v *visitor) ask(roots *x509.CertPool) {
	err := v.h.through(gateway, "hello.homelab.internal", roots)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.requests++; err != nil {
		v.failed = append(v.failed, fmt.Sprintf("%s: %v", time.Now().Format(time.TimeOnly+".000"), err))
	}
}

// through is one request over TLS verified against roots.
func (h *Hypervisor) through(address, name string, roots *x509.CertPool) error {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { return h.Dial(ctx, network, address) }
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("https://" + name + "/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// leaves are the keys and the issuers of everything that is served or stands in a volume.
type leaves map[string]*x509.Certificate

func (h *Hypervisor) leaves() leaves {
	h.t.Helper()
	out := leaves{}
	for name, at := range map[string]string{"www": gateway, "hello": "10.86.17.102:443", "hello-backend": "10.86.17.201:8443", "ca": ca} {
		full := name + ".homelab.internal"
		conn, err := h.handshake(at, full)
		if err != nil {
			h.t.Fatalf("%s at %s: %v", full, at, err)
		}
		out[full] = conn.PeerCertificates[0]
	}
	return out
}

// handshake shows what an address presents; nothing is verified.
func (h *Hypervisor) handshake(address, name string) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	raw, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := conn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

// differ wants every key to be another than before, and no one's issuer to be the one of before.
func (now leaves) differ(t testing.TB, before leaves) {
	t.Helper()
	for name, c := range now {
		old := before[name]
		if string(c.RawSubjectPublicKeyInfo) == string(old.RawSubjectPublicKeyInfo) {
			t.Errorf("%s has the key that it had before", name)
		}
		if string(c.AuthorityKeyId) == string(old.AuthorityKeyId) {
			t.Errorf("%s was issued by the intermediate of before", name)
		}
	}
}

func (h *Hypervisor) secret(path ...string) string {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{h.Root, "volumes", "103", "ssl", "secrets"}, path...)...))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// What others may know is made anew under the same root, while a client asks and gets an answer every time.
func TestRotateKeys(t *testing.T) {
	h := New(t, homelab())
	h.Phoenix("up").Want(0)
	root, before := h.RootCertificate(), h.leaves()
	passwords := h.secret("root", "password") + h.secret("intermediate", "password")
	if r := h.Phoenix("ca", "rotate").Want(1); !strings.Contains(r.Stdout, "stepca/103") || !strings.Contains(r.Stderr, "--yes") {
		t.Errorf("the plan does not tell what would be done\n%s", r)
	}
	h.Phoenix("plan", "--detailed-exitcode").Want(0)
	v, stop := h.visit(func() *x509.CertPool { return pool(root) })
	r := h.Phoenix("ca", "rotate", "--yes").Want(0)
	stop()
	t.Logf("%s\n%d requests, %d failed", r, v.requests, len(v.failed))
	if len(v.failed) > 0 {
		t.Errorf("failed requests:\n%s", strings.Join(v.failed, "\n"))
	}
	if now := h.RootCertificate(); !now.Equal(root) {
		t.Errorf("the root is another: %s, was %s", fingerprint(now), fingerprint(root))
	}
	h.leaves().differ(t, before)
	for _, p := range strings.Fields(h.secret("root", "password") + "\n" + h.secret("intermediate", "password")) {
		if strings.Contains(passwords, p) {
			t.Error("a password is the same as before")
		}
	}
	h.WantHealthy()
	h.Phoenix("plan", "--detailed-exitcode").Want(0)
}

// A new root takes the old one's place while a client that knows both asks and gets an answer every time.
func TestRotateRoot(t *testing.T) {
	h := New(t, homelab())
	h.Phoenix("up").Want(0)
	root, before := h.RootCertificate(), h.leaves()
	v, stop := h.visitEither(root)
	r := h.Phoenix("ca", "rotate", "--new-root", "--yes").Want(0)
	stop()
	t.Logf("%s\n%d requests, %d failed", r, v.requests, len(v.failed))
	if len(v.failed) > 0 {
		t.Errorf("failed requests:\n%s", strings.Join(v.failed, "\n"))
	}
	h.replaced(root, before)
}

// visitEither is visit by one who trusts the root, and the one that is made beside it.
func (h *Hypervisor) visitEither(root *x509.Certificate) (v *visitor, stop func()) {
	var next *x509.Certificate
	return h.visit(func() *x509.CertPool {
		if next == nil {
			next, _ = readCertificate(filepath.Join(h.Root, "volumes", "103", "ssl", "secrets", "next-root", "ca.crt")) // not yet
		}
		if next == nil {
			return pool(root)
		}
		return pool(root, next)
	})
}

// replaced wants another root than before, everywhere, and no trace of the old one.
func (h *Hypervisor) replaced(root *x509.Certificate, before leaves) {
	h.t.Helper()
	now := h.RootCertificate()
	if now.Equal(root) {
		h.t.Error("the root is the same")
	}
	after := h.leaves()
	after.differ(h.t, before)
	for name, at := range map[string]string{"www": gateway, "hello": "10.86.17.102:443", "hello-backend": "10.86.17.201:8443", "ca": ca} {
		full := name + ".homelab.internal"
		state, err := h.handshake(at, full)
		if err != nil {
			h.t.Fatal(err)
		}
		between := pool(state.PeerCertificates[1:]...)
		if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: full, Roots: pool(now), Intermediates: between}); err != nil {
			h.t.Errorf("%s: %v", full, err)
		}
		if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: full, Roots: pool(root), Intermediates: between}); err == nil {
			h.t.Errorf("%s still leads to the old root", full)
		}
	}
	pin, err := os.ReadFile(filepath.Join(h.Root, "pins", "103"))
	if err != nil || strings.TrimSpace(string(pin)) != fingerprint(now) {
		h.t.Errorf("pinned is %q (%v), the root is %s", pin, err, fingerprint(now))
	}
	old := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	for _, id := range []string{"101", "102", "201"} {
		store := h.Attach(id, nil, "sh", "-ec", "cat /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/*").Want(0).Stdout
		if strings.Contains(store, old) {
			h.t.Errorf("container %s still trusts the old root", id)
		}
	}
	left, err := os.ReadDir(filepath.Join(h.Root, "volumes", "103", "ssl", "secrets"))
	if err != nil || len(left) != 2 {
		h.t.Errorf("keys left on the CA's volume: %v, %v", left, err)
	}
	h.WantHealthy()
	h.Phoenix("plan", "--detailed-exitcode").Want(0)
}
