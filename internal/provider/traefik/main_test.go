package traefik

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	configAddr = object.Address("traefik/102/config")
	servedAddr = object.Address("traefik/102/certificates")
	pidFile    = "/run/traefik.pid"
)

// proxy is a machine for Traefik.
type proxy struct {
	t      *testing.T
	h      host.Host
	dir    string
	config spec.Traefik
	served spec.Traefik
}

func newProxy(t *testing.T, root *sandbox.Authority, directory string) *proxy {
	t.Helper()
	sandbox.Need(t)
	stop()
	p := &proxy{t: t, h: &host.Local{}, dir: t.TempDir()}
	p.config = spec.Traefik{
		Part: spec.TraefikConfig, Dir: filepath.Join(p.dir, "etc"), Storage: filepath.Join(p.dir, "acme.json"),
		User: "nobody",
		ACME: spec.ACME{Directory: directory, RootFile: root.RootFile}, Fingerprint: root.Fingerprint,
		Lifetime: spec.Duration(24 * time.Hour), Challenge: spec.HTTP01, Binary: os.Getenv("PHOENIX_TRAEFIK"),
		Restart: []string{"sh", "-c", "kill $(cat " + pidFile + ")"}, // what it runs under starts it again
		Routes: []spec.TraefikRoute{
			{Name: "app", Hosts: []string{"a.test.internal", "b.test.internal"}, URL: "http://127.0.0.3:8080"},
			{Name: "secure", Hosts: []string{"c.test.internal"}, URL: "https://127.0.0.3:8443",
				ServerName: "c.test.internal"},
		},
	}
	fillIn(&p.config)
	p.served = p.config
	p.served.Part = spec.TraefikCertificates
	return p
}

// stop ends the Traefik that runs now: the ports are there once.
var stop = func() {}

// start runs Traefik, again and again, until the test ends, as its unit does.
func (p *proxy) start() {
	p.t.Helper()
	binary := sandbox.Tool(p.t, "PHOENIX_TRAEFIK", "traefik")
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer log.Close()
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, binary, "--configFile="+staticFile(p.config))
			cmd.Stdout, cmd.Stderr = log, log
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				fmt.Fprintln(log, err)
				return
			}
			_ = os.WriteFile(pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
			_ = cmd.Wait()
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	p.t.Cleanup(stop)
	sandbox.Until(p.t, 20*time.Second, "traefik listens", func() error {
		c, err := net.Dial("tcp", servedAt)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.log())
		}
		return c.Close()
	})
}

func (p *proxy) log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *proxy) pid() string {
	b, _ := os.ReadFile(pidFile)
	return string(b)
}

func (p *proxy) look(s spec.Traefik) (*Status, plan.Delta) {
	p.t.Helper()
	st, err := Driver{}.Observe(context.Background(), p.h, configAddr, s)
	if err != nil {
		p.t.Fatal(err)
	}
	return st, Driver{}.Diff(s, st)
}

func (p *proxy) apply(s spec.Traefik) error {
	_, d := p.look(s)
	return Driver{}.Apply(context.Background(), p.h, configAddr, s, d)
}

// makeTrue demands that nothing is left to do.
func (p *proxy) makeTrue(s spec.Traefik) *Status {
	p.t.Helper()
	if _, d := p.look(s); !d.Empty() {
		if err := p.apply(s); err != nil {
			p.t.Fatalf("%v\n%s", err, p.log())
		}
	}
	st, d := p.look(s)
	if !d.Empty() {
		p.t.Fatalf("still to do: %+v", d)
	}
	return st
}

func asObject(t *testing.T, a object.Address, s spec.Traefik) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: a, Provider: "traefik", Host: "102", Spec: raw}
}

// backend answers on the address with what it is called.
func backend(t *testing.T, at, text string) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get; r.URL.Path == "/origin" {
			fmt.Fprintf(w, "for %s real %s proto %s host %s.", h("X-Forwarded-For"), h("X-Real-Ip"),
				h("X-Forwarded-Proto"), h("X-Forwarded-Host"))
			return
		}
		fmt.Fprintf(w, "%s %s", text, r.Host)
	}))
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener = ln
	t.Cleanup(srv.Close)
	return srv
}
