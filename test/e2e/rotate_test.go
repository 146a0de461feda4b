package e2e

import (
	"context"
	"errors"
	"io/fs"

	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// visitor makes requests through the gateway, as one who trusts whatever root is pinned at the moment, until it is told
// to stop.
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
	transport := &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return h.Dial(ctx, network, address)
	}
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

// servers are who presents a certificate for a name: a container, and the port in there. They are asked from inside,
// past every firewall.
var servers = map[string]struct{ id, port string }{
	"www.homelab.internal": {"101", "443"}, "hello.homelab.internal": {"102", "443"},
	"hello-backend.homelab.internal": {"201", "8443"},
	"ca.homelab.internal":            {"103", "9000"},
}

// leaves are the certificates that are served, by name.
type leaves map[string]*x509.Certificate

func (h *Hypervisor) leaves() leaves {
	h.t.Helper()
	out := leaves{}
	for name := range servers {
		out[name] = h.served(name)[0]
	}
	return out
}

// served is the chain that is presented for a name; nothing is verified.
func (h *Hypervisor) served(name string) (chain []*x509.Certificate) {
	h.t.Helper()
	at := servers[name]
	r := h.Attach(at.id, nil, "openssl", "s_client", "-connect", "127.0.0.1:"+at.port, "-servername", name,
		"-showcerts").Want(0)
	for rest := []byte(r.Stdout); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			h.t.Fatal(err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		h.t.Fatalf("%s presents no certificate\n%s", name, r)
	}
	return chain
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
	beside(t)
	h := New(t, homelab())
	h.Phoenix("up").Want(0)
	root, before := h.RootCertificate(), h.leaves()
	passwords := h.secret("root", "password") + h.secret("intermediate", "password")
	if r := h.Phoenix("ca", "rotate").Want(1); !strings.Contains(r.Stdout, "stepca/103") ||
		!strings.Contains(r.Stderr, "--yes") {
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
	beside(t)
	h := New(t, homelab())
	h.Phoenix("up").Want(0)
	root, before := h.RootCertificate(), h.leaves()
	v, stop := h.visitAll(root)
	r := h.Phoenix("ca", "rotate", "--new-root", "--yes").Want(0)
	stop()
	t.Logf("%s\n%d requests, %d failed", r, v.requests, len(v.failed))
	if len(v.failed) > 0 {
		t.Errorf("failed requests:\n%s", strings.Join(v.failed, "\n"))
	}
	h.replaced(root, before)
	h.Phoenix("ca", "rotate", "--yes").Want(0)
	h.Phoenix("delete", "--all", "--volumes=103", "--yes").Want(0)
	h.gone()
}

// gone wants nothing of phoenix's own directory to be left.
func (h *Hypervisor) gone() {
	h.t.Helper()
	if _, err := os.Lstat(h.Root); !errors.Is(err, fs.ErrNotExist) {
		h.t.Errorf("%s is left (%v)", h.Root, err)
	}
}

// visitAll is visit by one who trusts the root, and each that is made beside it.
func (h *Hypervisor) visitAll(root *x509.Certificate) (v *visitor, stop func()) {
	known := []*x509.Certificate{root}
	return h.visit(func() *x509.CertPool {
		next, err := readCertificate(filepath.Join(h.Root, "volumes", "103", "ssl", "secrets", "next-root", "ca.crt"))
		if err == nil && !slices.ContainsFunc(known, next.Equal) {
			known = append(known, next)
		}
		return pool(known...)
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
	for name := range servers {
		chain := h.served(name)
		between := pool(chain[1:]...)
		if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: pool(now),
			Intermediates: between}); err != nil {
			h.t.Errorf("%s: %v", name, err)
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: pool(root),
			Intermediates: between}); err == nil {
			h.t.Errorf("%s still leads to the old root", name)
		}
	}
	pin, err := os.ReadFile(filepath.Join(h.Root, "pins", "103"))
	if err != nil || strings.TrimSpace(string(pin)) != fingerprint(now) {
		h.t.Errorf("pinned is %q (%v), the root is %s", pin, err, fingerprint(now))
	}
	old := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	for _, id := range []string{"101", "102", "201"} {
		store := h.Attach(id, nil, "sh", "-ec", "cat /etc/ssl/certs/ca-certificates.crt "+
			"/usr/local/share/ca-certificates/*").Want(0).Stdout
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

// While watch runs, a new root is begun again and again, and phoenix killed each time at another moment; then it comes
// to its end. No request fails meanwhile.
func TestRotateKilled(t *testing.T) {
	beside(t)
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("PHOENIX_KILL_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("PHOENIX_KILL_SEED=%d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	f := newFaults(t, nil)
	f.WantHealthy()
	root, before := f.RootCertificate(), f.leaves()
	v, stop := f.visitAll(root)
	defer stop()
	var pins []string
	for range 8 {
		f.killAfter(time.Duration(500+draw.IntN(7500))*time.Millisecond, "ca", "rotate", "--new-root", "--yes")
		pin, err := os.ReadFile(filepath.Join(f.Root, "pins", "103"))
		f.must(err)
		pins = append(pins, regexp.MustCompile(`[0-9a-f]{56}\b`).ReplaceAllString(strings.TrimSpace(string(pin)), ""))
	}
	t.Logf("pinned after the kills: %q", pins)
	r := f.Phoenix("ca", "rotate", "--new-root", "--yes").Want(0)
	stop()
	t.Logf("%s\n%d requests, %d failed", r, v.requests, len(v.failed))
	if len(v.failed) > 0 {
		t.Errorf("failed requests:\n%s", strings.Join(v.failed, "\n"))
	}
	f.stop()
	f.replaced(root, before)
}

// killAfter starts a phoenix command and kills it, with its children, after a while; one that has ended by then has
// ended.
func (h *Hypervisor) killAfter(d time.Duration, args ...string) {
	h.t.Helper()
	argv := h.inside(h.argv(args))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	time.Sleep(d) // no condition to wait for: the moment is what is varied
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait()
}

// A container that does not run is waited for, and told; meanwhile the others renew their certificates alone, and
// everyone takes them. Once it runs, all goes on.
func TestRotateWaitsForAll(t *testing.T) {
	beside(t)
	f := &faults{Hypervisor: New(t, homelab()), keep: map[string]string{}}
	f.Phoenix("up").Want(0)
	root, before := f.RootCertificate(), f.leaves()
	f.Phoenix("stop", "201").Want(0)
	if r := f.Phoenix("ca", "rotate", "--new-root", "--yes").Want(1); !strings.Contains(r.Stderr,
		"container 201 does not run") {
		t.Errorf("who is in the way is not told\n%s", r)
	}
	if now := f.RootCertificate(); !now.Equal(root) {
		t.Fatal("the CA signs under the new root before everyone trusts it")
	}
	f.WantHealthy("101", "102", "103")
	f.Phoenix("plan", "--detailed-exitcode", "101", "102", "103").Want(0)

	f.remember(f.crt())
	f.must(os.Remove(f.key())) // the daemon gets another, the hypervisor being away
	if !await(healLimit, func() bool {
		raw, err := os.ReadFile(f.crt())
		return err == nil && !f.same(f.crt()) && f.serves() == serial(raw)
	}) {
		t.Errorf("not renewed by the container alone within %s", healLimit)
	}
	f.Phoenix("start", "201").Want(0)
	f.Phoenix("ca", "rotate", "--new-root", "--prepare", "--yes").Want(0)
	if n := strings.Count(f.Phoenix("ca", "show").Want(0).Stdout, "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("%d roots are shown to those outside, want both", n)
	}
	f.WantHealthy()
	f.Phoenix("plan", "--detailed-exitcode").Want(0)
	if now := f.RootCertificate(); !now.Equal(root) {
		t.Error("prepared, and the new root is in use already")
	}
	f.Phoenix("ca", "rotate", "--new-root", "--yes").Want(0)
	f.replaced(root, before)
}
