package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

// briefly is the configuration with certificates that have to be renewed every minute: they live for two, and step-ca
// dates them back by one.
func briefly(h *Hypervisor) {
	path := filepath.Join(h.Config, "phoenix_hypervisor_config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	text := strings.Replace(string(raw), `"provisioner_name"`, `"leaf_lifetime": "2m", "provisioner_name"`, 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil || text == string(raw) {
		h.t.Fatalf("nothing was changed: %v", err)
	}
}

// caller makes requests, a connection each, and remembers what it was served.
type caller struct {
	h        *Hypervisor
	root     *x509.Certificate
	mu       sync.Mutex // guards what follows
	requests int
	failed   []string
	serials  map[string]bool
	slowest  time.Duration
}

func (c *caller) call(address string) {
	start := time.Now()
	err := c.request(address)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(c.slowest, time.Since(start))
	if c.requests++; err != nil && len(c.failed) < 20 {
		c.failed = append(c.failed, fmt.Sprintf("%s: %v", time.Now().Format(time.TimeOnly), err))
	}
}

// request is one over TLS that is verified: a certificate past its end or of another key fails here.
func (c *caller) request(address string) error {
	pool := x509.NewCertPool()
	pool.AddCert(c.root)
	transport := &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "hello.homelab.internal"},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.h.Dial(ctx, network, address)
		}}
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).
		Get("https://hello.homelab.internal/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	leaf := response.TLS.PeerCertificates[0]
	c.mu.Lock()
	c.serials[leaf.SerialNumber.String()] = true
	c.mu.Unlock()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// during calls an address ten times a second until stop is closed.
func (c *caller) during(address string, stop <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		c.call(address)
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// While all certificates are renewed every minute, by the containers alone, no request fails, none is answered with a
// certificate past its end or of another key. Then the CA is away until the gateway's certificate has ended, and all is
// well soon after it is back. PHOENIX_LOAD is for how long requests are made.
func TestLoadWhileRenewing(t *testing.T) {
	t.Parallel() // without a slot: it waits nearly all of its time, and takes the longest
	length := 3 * time.Minute
	if d, err := time.ParseDuration(os.Getenv("PHOENIX_LOAD")); err == nil {
		length = d
	}
	h := New(t, homelab())
	briefly(h)
	h.edit("102", func(c map[string]any) { // whose certificates are looked at from the hypervisor, too
		c["firewall"] = map[string]any{"enabled": true, "rules": []any{
			map[string]any{"type": "in", "action": "ACCEPT", "proto": "tcp", "port": "443", "source": "10.86.17.1"}}}
	})
	h.Phoenix("up").Want(0)
	root := h.RootCertificate()
	callers := map[string]*caller{}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, address := range []string{gateway, "10.86.17.102:443"} {
		c := &caller{h: h, root: root, serials: map[string]bool{}}
		callers[address] = c
		all.Go(func() { c.during(address, stop) })
	}
	time.AfterFunc(length, func() { close(stop) })
	all.Wait()
	for address, c := range callers {
		t.Logf("%s: %d requests, %d failed, %d certificates in %s", address, c.requests, len(c.failed), len(c.serials),
			length)
		if len(c.failed) > 0 {
			t.Errorf("%s: failed requests: %s", address, strings.Join(c.failed, "; "))
		}
		if want := int(length/time.Minute) - 1; len(c.serials) < want {
			t.Errorf("%s: %d certificates, want %d at least", address, len(c.serials), want)
		}
	}
	t.Run("CA away until the end", func(t *testing.T) { awayUntilTheEnd(t, h, root) })
}

// awayUntilTheEnd takes the way to the CA from the gateway's container for longer than what is left of its certificate.
func awayUntilTheEnd(t *testing.T, h *Hypervisor, root *x509.Certificate) {
	in := func(argv ...string) {
		t.Helper()
		h.Exec(append([]string{"lxc-attach", "-P", filepath.Join(h.Root, "lxc"), "-n", "101", "--clear-env", "--"},
			argv...)...).Want(0)
	}
	in("ip", "route", "add", "blackhole", "10.86.17.103/32")
	c := &caller{h: h, root: root, serials: map[string]bool{}}
	if !await(5*time.Minute, func() bool { return c.request(gateway) != nil }) {
		t.Fatal("the certificate does not end without the CA: was it away?")
	}
	h.Phoenix("health", "101").Want(3)
	in("ip", "route", "delete", "blackhole", "10.86.17.103/32")
	back := time.Now()
	if !await(time.Minute, func() bool { return c.request(gateway) == nil }) {
		t.Fatalf("not whole a minute after the CA is back\n%s", h.Phoenix("health", "-q"))
	}
	t.Logf("the gateway is whole %s after the CA is back", time.Since(back).Round(10*time.Millisecond))
	if !await(healLimit, func() bool { return h.Phoenix("health", "-q").Exit == 0 }) {
		t.Errorf("not healthy %s later\n%s", healLimit, h.Phoenix("health", "-q"))
	}
}
