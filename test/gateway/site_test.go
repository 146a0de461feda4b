// Package gateway tests what goes through both hops, the gateway's nginx and the internal proxy's Traefik, as the
// drivers configure them. All of it runs in a network namespace of its own, with TLS verified at each hop and without
// containers: what is tested are the two files together.
package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/nginx"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

// The two ends of the link between the hops. Traefik is in a network namespace of its own, for both have port 443.
const (
	gatewayAt = "10.99.0.1"
	proxyAt   = "10.99.0.2"
	proxyNet  = "proxy"
	entryAt   = gatewayAt + ":443"
)

// Names of the routes: over plain http, over TLS, over HTTP/2 without TLS.
const (
	plainName  = "a.test.internal"
	secureName = "b.test.internal"
	h2cName    = "c.test.internal"
)

// site is a running gateway and a running proxy.
type site struct {
	t        *testing.T
	dir      string
	ca       *sandbox.Authority
	nginx    spec.Nginx
	traefik  spec.Traefik
	edge     *exec.Cmd
	inner    *exec.Cmd
	innerTmp string
}

// newSite starts both, with the three routes that are always there and what adapt adds.
func newSite(t *testing.T, adapt func(*site)) *site {
	t.Helper()
	sandbox.Need(t)
	sandbox.Tool(t, "PHOENIX_NGINX", "nginx")
	sandbox.Tool(t, "PHOENIX_TRAEFIK", "traefik")
	s := &site{t: t, dir: t.TempDir()}
	s.ca = sandbox.NewAuthority(t, s.dir)
	s.link()
	s.describe()
	if adapt != nil {
		adapt(s)
	}
	s.startTraefik()
	s.startNginx()
	return s
}

// link makes the proxy's network namespace.
func (s *site) link() {
	s.t.Helper()
	in := "nsenter --net=/run/netns/" + proxyNet + " ip "
	for _, line := range []string{
		"ip netns add " + proxyNet, "ip link add edge type veth peer name inner netns " + proxyNet,
		"ip address add " + gatewayAt + "/24 dev edge", "ip link set edge up",
		in + "address add " + proxyAt + "/24 dev inner",
		in + "link set inner up", in + "link set lo up",
	} {
		argv := strings.Fields(line)
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			s.t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	s.t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", proxyNet).Run() })
}

func (s *site) describe() {
	names := []string{plainName, secureName, h2cName}
	s.nginx = spec.Nginx{
		Part: spec.NginxBase, Dir: "/etc/nginx", Webroot: "/run/gateway/webroot",
		Certificate: "/run/gateway/ssl/tls.crt", Key: "/run/gateway/ssl/tls.key", RootFile: s.ca.RootFile,
	}
	for _, n := range names {
		s.nginx.Sites = append(s.nginx.Sites, spec.NginxSite{Name: n, Upstream: proxyAt + ":443"})
	}
	s.traefik = spec.Traefik{
		Part: spec.TraefikConfig, Dir: filepath.Join(s.dir, "traefik"), Storage: filepath.Join(s.dir, "acme.json"),
		User: "nobody", ACME: spec.ACME{Directory: "https://ca.test.internal:9000/acme", RootFile: s.ca.RootFile},
		Fingerprint: s.ca.Fingerprint, Lifetime: spec.Duration(24 * time.Hour), Challenge: spec.HTTP01,
		Binary: os.Getenv("PHOENIX_TRAEFIK"), Restart: []string{"true"}, Gateways: []string{gatewayAt},
		Routes: []spec.TraefikRoute{
			{Name: "plain", Hosts: []string{plainName}, URL: "http://" + gatewayAt + ":8000"},
			{Name: "secure", Hosts: []string{secureName}, URL: "https://" + gatewayAt + ":8443", ServerName: secureName},
			{Name: "h2c", Hosts: []string{h2cName}, URL: "h2c://" + gatewayAt + ":8001"},
		},
	}
}

func (s *site) write(path string, text []byte) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// startTraefik gives it certificates by a file of the user's own, beside phoenix's: no CA is needed.
func (s *site) startTraefik() {
	s.t.Helper()
	chain, key := s.ca.Issue(s.t, time.Now().Add(time.Hour), plainName, secureName, h2cName, movedName)
	s.write(filepath.Join(s.dir, "own.crt"), chain)
	s.write(filepath.Join(s.dir, "own.key"), key)
	s.write(filepath.Join(s.traefik.Dir, "dynamic", "own.yml"), []byte("tls:\n  certificates:\n  - certFile: "+
		s.dir+"/own.crt\n    keyFile: "+s.dir+"/own.key\n"))
	s.applyTraefik()
	s.innerTmp = tmpfs(s.t, filepath.Join(s.dir, "traefik-tmp"))
	s.inner = s.start("traefik", []string{"TMPDIR=" + s.innerTmp}, "nsenter", "--net=/run/netns/"+proxyNet,
		sandbox.Tool(s.t, "PHOENIX_TRAEFIK", "traefik"), "--configFile="+filepath.Join(s.traefik.Dir, "traefik.yml"))
	sandbox.Until(s.t, 20*time.Second, "traefik serves its certificate", func() error {
		for _, name := range []string{plainName, secureName, h2cName} {
			conn, err := tls.Dial("tcp", proxyAt+":443", &tls.Config{ServerName: name, RootCAs: s.ca.Pool()})
			if err != nil {
				return fmt.Errorf("%w\n%s", err, s.log("traefik"))
			}
			conn.Close()
		}
		return nil
	})
}

func (s *site) startNginx() {
	s.t.Helper()
	names := make([]string, 0, len(s.nginx.Sites))
	for _, x := range s.nginx.Sites {
		names = append(names, x.Name)
	}
	chain, key := s.ca.Issue(s.t, time.Now().Add(time.Hour), names...)
	s.write(s.nginx.Certificate, chain)
	s.write(s.nginx.Key, key)
	tmpfs(s.t, "/var/lib/nginx")
	tmpfs(s.t, s.nginx.Dir) // nothing of another test's gateway
	s.applyNginx()
	s.edge = s.start("nginx", nil, "nginx", "-g", "daemon off; master_process on;")
	sandbox.Until(s.t, 10*time.Second, "nginx listens", func() error {
		c, err := net.Dial("tcp", entryAt)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.log("nginx"))
		}
		return c.Close()
	})
}

// applyNginx makes both parts true.
func (s *site) applyNginx() {
	s.t.Helper()
	both := []spec.Nginx{s.nginx, s.nginx}
	both[1].Part = spec.NginxTLS
	for _, part := range both {
		apply(s.t, "nginx/101/"+object.Address(part.Part), part, nginx.Driver{}.Observe, nginx.Driver{}.Diff,
			nginx.Driver{}.Apply)
	}
}

// apply makes one object true, as the engine does.
func apply[S, T any](t *testing.T, a object.Address, s S,
	observe func(context.Context, host.Host, object.Address, S) (*T, error), diff func(S, *T) plan.Delta,
	do func(context.Context, host.Host, object.Address, S, plan.Delta) error) {
	t.Helper()
	h, ctx := &host.Local{}, context.Background()
	st, err := observe(ctx, h, a, s)
	if err == nil {
		err = do(ctx, h, a, s, diff(s, st))
	}
	if err != nil {
		t.Fatalf("%s: %v", a, err)
	}
}

// start runs a program until the test ends; it writes its log into the site's directory.
func (s *site) start(name string, env []string, argv ...string) *exec.Cmd {
	s.t.Helper()
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return cmd
}

func (s *site) log(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.dir, name+".log"))
	return string(text)
}

// tmpfs is a directory whose use can be told to the byte, whatever is done with names in it.
func tmpfs(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=1777,size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// dial leads every name to the gateway.
func dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, entryAt)
}

// client verifies the gateway, and speaks HTTP/2 or HTTP/1.1 alone.
func (s *site) client(h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!h2)
	p.SetHTTP2(h2)
	tr := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool()}, Protocols: p,
		ExpectContinueTimeout: 20 * time.Second, DisableCompression: true, MaxResponseHeaderBytes: 1 << 20}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
