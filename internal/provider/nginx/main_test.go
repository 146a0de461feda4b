package nginx

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

const (
	baseAddr = object.Address("nginx/101/base")
	tlsAddr  = object.Address("nginx/101/tls")
)

// gateway is a machine with nginx installed and nothing configured.
type gateway struct {
	t    *testing.T
	h    host.Host
	dir  string // webroot, certificate and root
	base spec.Nginx
	tls  spec.Nginx
	ca   *sandbox.Authority
}

// stop ends the nginx that runs now: the ports are there once.
var stop = func() {}

// newGateway wipes what an earlier one left. One at a time: there is one /etc/nginx.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	sandbox.Need(t)
	sandbox.Tool(t, "PHOENIX_NGINX", "nginx")
	stop()
	g := &gateway{t: t, h: &host.Local{}, dir: "/run/gateway"}
	for _, dir := range []string{g.dir, "/etc/nginx", "/var/log/nginx"} {
		empty(t, dir)
	}
	if err := os.Mkdir(filepath.Join(g.dir, "ssl"), 0o700); err != nil {
		t.Fatal(err)
	}
	g.ca = sandbox.NewAuthority(t, g.dir)
	g.base = spec.Nginx{
		Part: spec.NginxBase, Dir: "/etc/nginx", Webroot: filepath.Join(g.dir, "webroot"),
		Certificate: filepath.Join(g.dir, "ssl", "tls.crt"),
		Key:         filepath.Join(g.dir, "ssl", "tls.key"), RootFile: g.ca.RootFile,
		Sites: []spec.NginxSite{
			{Name: "b.test.internal", Upstream: "127.0.0.2:8443"},
			{Name: "a.test.internal", Upstream: "127.0.0.2:8443", Challenge: "127.0.0.2:8080"},
			{Name: "c.test.internal"},
		},
	}
	g.tls = g.base
	g.tls.Part = spec.NginxTLS
	return g
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.RemoveAll(filepath.Join(dir, n.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// certify puts a certificate in place, as the certificate object would.
func (g *gateway) certify() {
	g.t.Helper()
	chain, key := g.ca.Issue(g.t, time.Now().Add(time.Hour), "a.test.internal", "b.test.internal", "c.test.internal")
	g.write(g.base.Certificate, chain, 0o644)
	g.write(g.base.Key, key, 0o600)
}

func (g *gateway) write(path string, text []byte, mode os.FileMode) {
	g.t.Helper()
	if err := os.WriteFile(path, text, mode); err != nil {
		g.t.Fatal(err)
	}
}

// start runs nginx as its unit does, until the test ends.
func (g *gateway) start() {
	g.t.Helper()
	cmd := exec.Command("nginx", "-g", "daemon off; master_process on;")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	g.t.Cleanup(stop)
	sandbox.Until(g.t, 10*time.Second, "nginx listens", func() error {
		if !running(g.h) {
			return errors.New("no pid")
		}
		c, err := net.Dial("tcp", "127.0.0.1:80")
		if err != nil {
			return err
		}
		return c.Close()
	})
}

func (g *gateway) look(a object.Address, s spec.Nginx) (*Status, plan.Delta) {
	g.t.Helper()
	st, err := Driver{}.Observe(context.Background(), g.h, a, s)
	if err != nil {
		g.t.Fatal(err)
	}
	return st, Driver{}.Diff(s, st)
}

// run makes both parts true in their order, as far as they can be, and tells how many changes that took.
func (g *gateway) run() int {
	g.t.Helper()
	counted := host.NewCounted(g.h, nil)
	for a, s := range map[object.Address]spec.Nginx{baseAddr: g.base} {
		g.makeTrue(counted, a, s)
	}
	if unusable(g.h, g.tls) == "" {
		g.makeTrue(counted, tlsAddr, g.tls)
	}
	return counted.Mutations()
}

func (g *gateway) makeTrue(h host.Host, a object.Address, s spec.Nginx) {
	g.t.Helper()
	if _, d := g.look(a, s); !d.Empty() {
		if err := (Driver{}).Apply(context.Background(), h, a, s, d); err != nil {
			g.t.Fatal(err)
		}
	}
	if _, d := g.look(a, s); !d.Empty() {
		g.t.Fatalf("%s: still to do: %+v", a, d)
	}
}

func asObject(t *testing.T, a object.Address, s spec.Nginx) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: a, Provider: "nginx", Host: "101", Spec: raw}
}

// client trusts the gateway's root, and follows no redirect.
func (g *gateway) client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.ca.Pool()}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       5 * time.Second,
	}
}
