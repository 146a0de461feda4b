package nginx

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

const debianConf = "pid /run/nginx.pid;\nevents {}\nhttp { server { listen 80; return 200 \"Welcome to nginx!\"; } }\n"

func TestConformance(t *testing.T) {
	damage := map[string]func(*testing.T, host.Host, object.Object){
		"an edited file": func(t *testing.T, _ host.Host, o object.Object) { overwrite(t, o, "# mine\n") },
		"a lost file": func(t *testing.T, _ host.Host, o object.Object) {
			if err := os.Remove(fileOf(t, o)); err != nil {
				t.Fatal(err)
			}
		},
		"an open file": func(t *testing.T, _ host.Host, o object.Object) {
			if err := os.Chmod(fileOf(t, o), 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"a check that was killed": func(t *testing.T, _ host.Host, _ object.Object) {
			if err := os.Mkdir("/etc/nginx/phoenix-next", 0o700); err != nil {
				t.Fatal(err)
			}
		},
	}
	t.Run("base, not running", func(t *testing.T) {
		conformance.Run(t,
			conformance.Case{Driver: New(), Break: damage, Fresh: func(t *testing.T) (host.Host, object.Object) {
				g := newGateway(t)
				return g.h, asObject(t, baseAddr, g.base)
			}})
	})
	t.Run("base, over a running Debian nginx", func(t *testing.T) {
		conformance.Run(t,
			conformance.Case{Driver: New(), Break: damage, Fresh: func(t *testing.T) (host.Host, object.Object) {
				g := newGateway(t)
				g.write("/etc/nginx/nginx.conf", []byte(debianConf), 0o644)
				g.start()
				return g.h, asObject(t, baseAddr, g.base)
			}})
	})
	t.Run("tls, running", func(t *testing.T) {
		conformance.Run(t, conformance.Case{Driver: New(), Break: damage,
			Volatile: []string{"sha256", "loaded", "trust"}, Fresh: func(t *testing.T) (host.Host, object.Object) {
				g := newGateway(t)
				g.makeTrue(g.h, baseAddr, g.base)
				g.start()
				g.certify()
				return g.h, asObject(t, tlsAddr, g.tls)
			}})
	})
}

func fileOf(t *testing.T, o object.Object) string {
	t.Helper()
	var s spec.Nginx
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		t.Fatal(err)
	}
	return partFile(s)
}

func overwrite(t *testing.T, o object.Object, text string) {
	t.Helper()
	if err := os.WriteFile(fileOf(t, o), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// From nothing to TLS, and what happens when the certificate goes.
func TestLifeOfTheTwoParts(t *testing.T) {
	g := newGateway(t)
	if g.run() == 0 {
		t.Fatal("nothing was done on an empty machine")
	}
	g.start()
	if n := g.run(); n != 0 {
		t.Fatalf("the second run made %d changes", n)
	}
	rejects(t, "a.test.internal")
	if _, d := g.look(tlsAddr, g.tls); d.Empty() {
		t.Fatal("TLS without a certificate is called true")
	}
	g.certify()
	if g.run() == 0 {
		t.Fatal("the certificate was not seen")
	}
	if _, err := g.client().Get("https://a.test.internal/"); err != nil {
		t.Fatal(err)
	}
	if n := g.run(); n != 0 {
		t.Fatalf("the second run made %d changes", n)
	}
	if err := os.Remove(g.base.Certificate); err != nil {
		t.Fatal(err)
	}
	if _, d := g.look(baseAddr, g.base); !d.Empty() {
		t.Errorf("base, which needs no certificate, and runs: %+v", d)
	}
	if _, d := g.look(tlsAddr, g.tls); !d.Has("certificate") {
		t.Errorf("tls: %+v", d)
	}
	g.certify()
	if n := g.run(); n != 0 {
		t.Errorf("the certificate is back: %d changes", n)
	}
}

// A machine that starts without its certificate must not be kept from getting one.
func TestStartsWithoutTheCertificateItHad(t *testing.T) {
	g := newGateway(t)
	g.certify()
	g.run()
	if err := os.Remove(g.base.Key); err != nil {
		t.Fatal(err)
	}
	if _, d := g.look(baseAddr, g.base); !d.Has(tlsFile(g.base)) {
		t.Fatalf("got %+v", d)
	}
	g.run()
	g.start()
	rejects(t, "a.test.internal")
}

func rejects(t *testing.T, name string) {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:443", &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err == nil {
		conn.Close()
		t.Fatalf("a certificate is served for %s: %v", name, conn.ConnectionState().PeerCertificates[0].Subject)
	}
	if !strings.Contains(err.Error(), "unrecognized name") {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestChallenges(t *testing.T) {
	g := newGateway(t)
	traefik := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "traefik answers for %s", r.Host)
	}))
	traefik.Listener = listen(t, "127.0.0.2:8080")
	traefik.Start()
	defer traefik.Close()
	g.run()
	own := filepath.Join(g.base.Webroot, ".well-known", "acme-challenge")
	if err := os.MkdirAll(own, 0o711); err != nil {
		t.Fatal(err)
	}
	g.write(filepath.Join(own, "token"), []byte("the agent answers"), 0o644)
	g.start()
	for _, c := range []struct {
		url, want string
		code      int
	}{
		{"http://a.test.internal/.well-known/acme-challenge/token", "the agent answers", 200},
		{"http://a.test.internal/.well-known/acme-challenge/other", "traefik answers for a.test.internal", 200},
		{"http://b.test.internal/.well-known/acme-challenge/token", "the agent answers", 200},
		{"http://b.test.internal/.well-known/acme-challenge/other", "", 404},
		{"http://traefik.test.internal/.well-known/acme-challenge/token", "the agent answers", 200},
		{"http://traefik.test.internal/", "no such site", 404},
		{"http://a.test.internal/x?y=1", "", 301},
	} {
		resp, err := g.client().Get(c.url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.code || !strings.Contains(string(body), c.want) {
			t.Errorf("%s: %d %q, want %d %q", c.url, resp.StatusCode, body, c.code, c.want)
		}
		if to := resp.Header.Get("Location"); c.code == 301 && to != "https://a.test.internal/x?y=1" {
			t.Errorf("redirects to %s", to)
		}
	}
}

func listen(t *testing.T, at string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// origin are the headers that tell a backend where a request came from.
var origin = []string{"X-Forwarded-For", "X-Real-Ip", "X-Forwarded-Proto", "X-Forwarded-Host",
	"X-Forwarded-Port", "Forwarded"}

// upstream is what Traefik is to the gateway: a certificate of its own for each name.
func upstream(t *testing.T, ca *sandbox.Authority) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			echo(w)
			return
		}
		if n, err := strconv.Atoi(r.Header.Get("X-Answer-Size")); err == nil {
			w.Header().Set("X-Large", strings.Repeat("r", n))
			w.Header().Set("X-Came", strconv.Itoa(len(r.Header.Get("Cookie"))))
		}
		if r.URL.Path == "/origin" {
			for _, name := range origin {
				fmt.Fprintf(w, "%s=%s ", name, strings.Join(r.Header.Values(name), "|"))
			}
			return
		}
		fmt.Fprintf(w, "host %s sni %s proto %s from %s", r.Host, r.TLS.ServerName, r.Header.Get("X-Forwarded-Proto"),
			r.Header.Get("X-Forwarded-For"))
	}))
	srv.Listener = listen(t, "127.0.0.2:8443")
	pairs := map[string]*tls.Certificate{}
	for _, n := range []string{"a.test.internal", "b.test.internal"} {
		pair, err := tls.X509KeyPair(ca.Issue(t, time.Now().Add(time.Hour), n))
		if err != nil {
			t.Fatal(err)
		}
		pairs[n] = &pair
	}
	srv.TLS = &tls.Config{GetCertificate: func(i *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return pairs[i.ServerName], nil
	}}
	srv.StartTLS()
	srv.TLS.Certificates = nil // httptest's own
	t.Cleanup(srv.Close)
}

func echo(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	rw.Flush()
	line, err := rw.ReadString('\n')
	if err != nil {
		return
	}
	fmt.Fprintf(rw, "echo %s", line)
	rw.Flush()
}

func TestRoutes(t *testing.T) {
	g := newGateway(t)
	g.certify()
	g.run()
	g.start() // upstreams are down: it starts, and says so
	status := func(url string) (int, string) {
		resp, err := g.client().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, _ := status("https://a.test.internal/"); code != 502 {
		t.Errorf("without its upstream: %d", code)
	}
	upstream(t, g.ca)
	for range 3 { // sessions and connections are kept, and must not be taken for another name
		for _, n := range []string{"a.test.internal", "b.test.internal"} {
			want := fmt.Sprintf("host %s sni %s proto https from 127.0.0.1", n, n)
			if code, body := status("https://" + n + "/"); code != 200 || body != want {
				t.Errorf("%s: %d %q", n, code, body)
			}
		}
	}
	if code, body := status("https://c.test.internal/"); code != 404 ||
		!strings.Contains(body, "no container has a route") {
		t.Errorf("no route: %d %q", code, body)
	}
	rejects(t, "foreign.test.internal")
	websocket(t, g)
	forged(t, g)
	largeHeaders(t, g)
}

// Where the upstream does not answer, or has no certificate, the one that stands in is asked, and no longer than that.
func TestCoveredUpstream(t *testing.T) {
	g := newGateway(t)
	for i := range g.base.Sites {
		if g.base.Sites[i].Upstream != "" {
			g.base.Sites[i].Upstream, g.base.Sites[i].Cover = "127.0.0.4:8443", "127.0.0.2:8443"
		}
	}
	g.tls.Sites = g.base.Sites
	g.certify()
	upstream(t, g.ca)
	g.run()
	g.start()
	ask := func() string {
		resp, err := g.client().Get("https://a.test.internal/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	for range 3 {
		if got := ask(); !strings.HasPrefix(got, "200 host a.test.internal") {
			t.Fatalf("with nobody at the upstream: %s", got)
		}
	}
	first := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "first")
	}))
	first.Listener = listen(t, "127.0.0.4:8443")
	var pair *tls.Certificate
	first.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if pair == nil {
			return nil, errors.New("not issued yet")
		}
		return pair, nil
	}}
	first.Config.ErrorLog = log.New(io.Discard, "", 0)
	first.StartTLS()
	t.Cleanup(first.Close)
	first.TLS.Certificates = nil // httptest's own
	if got := ask(); !strings.HasPrefix(got, "200 host a.test.internal") {
		t.Errorf("with an upstream without a certificate: %s", got)
	}
	made, err := tls.X509KeyPair(g.ca.Issue(t, time.Now().Add(time.Hour), "a.test.internal"))
	if err != nil {
		t.Fatal(err)
	}
	pair = &made
	if got := ask(); got != "200 first" {
		t.Errorf("once the upstream answers: %s", got)
	}
}

// What a client says about where it is never gets through, over HTTP/1.1 and HTTP/2.
func forged(t *testing.T, g *gateway) {
	t.Helper()
	const want = "X-Forwarded-For=127.0.0.1 X-Real-Ip=127.0.0.1 X-Forwarded-Proto=https " +
		"X-Forwarded-Host=a.test.internal X-Forwarded-Port=443 Forwarded= "
	req, err := http.NewRequest(http.MethodGet, "https://a.test.internal/origin", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range origin {
		req.Header.Set(name, "192.0.2.66")
	}
	resp, err := g.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != want {
		t.Errorf("forged headers: %q %v\nwant %q", body, err, want)
	}
}

// Logins by OpenID Connect have cookies and answers of many kilobytes.
func largeHeaders(t *testing.T, g *gateway) {
	t.Helper()
	for _, size := range []int{6 << 10, 9 << 10, 32 << 10} {
		req, err := http.NewRequest(http.MethodGet, "https://a.test.internal/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", strings.Repeat("c", size))
		req.Header.Set("X-Answer-Size", strconv.Itoa(size))
		resp, err := g.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || len(resp.Header.Get("X-Large")) != size ||
			resp.Header.Get("X-Came") != strconv.Itoa(size) {
			t.Errorf("%d bytes of headers each way: %s, %d came back, %s went", size, resp.Status,
				len(resp.Header.Get("X-Large")), resp.Header.Get("X-Came"))
		}
	}
}

func websocket(t *testing.T, g *gateway) {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:443", &tls.Config{ServerName: "a.test.internal", RootCAs: g.ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.test.internal\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("no upgrade: %v %v", resp, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("got %q %v", line, err)
	}
}

// An upstream whose certificate another CA signed gets nothing.
func TestForeignUpstream(t *testing.T) {
	g := newGateway(t)
	upstream(t, sandbox.NewAuthority(t, t.TempDir()))
	g.certify()
	g.run()
	g.start()
	resp, err := g.client().Get("https://a.test.internal/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 502 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestAnotherRootIsLoaded(t *testing.T) {
	g := newGateway(t)
	g.certify()
	g.run()
	g.start()
	other := sandbox.NewAuthority(t, t.TempDir())
	text, err := os.ReadFile(other.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	g.write(g.base.RootFile, text, 0o644)
	if _, d := g.look(tlsAddr, g.tls); !d.Has("loaded") {
		t.Fatalf("got %+v", d)
	}
	g.run()
}

// What nginx does not take never replaces what it takes.
func TestBadConfigurationStaysOut(t *testing.T) {
	g := newGateway(t)
	g.run()
	good, err := os.ReadFile("/etc/nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	g.write("/etc/nginx/phoenix-tls/mine.conf", []byte("nonsense;\n"), 0o644)
	g.base.Sites = g.base.Sites[:1]
	_, d := g.look(baseAddr, g.base)
	err = Driver{}.Apply(context.Background(), g.h, baseAddr, g.base, d)
	if err == nil || !strings.Contains(err.Error(), `unknown directive "nonsense"`) {
		t.Errorf("got %v", err)
	}
	if now, _ := os.ReadFile("/etc/nginx/nginx.conf"); string(now) != string(good) {
		t.Error("the good one was replaced")
	}
	if _, err := os.Stat("/etc/nginx/phoenix-next"); !os.IsNotExist(err) {
		t.Errorf("the checked one is left behind: %v", err)
	}
}

// nginx reads, but does not take: the port of an added server is not free, for example.
func TestReloadThatIsNotTaken(t *testing.T) {
	g := newGateway(t)
	g.run()
	g.start()
	old := loadLimit
	loadLimit = 200 * time.Millisecond
	defer func() { loadLimit = old }()
	defer listen(t, "127.0.0.1:8081").Close()
	g.write("/etc/nginx/phoenix-tls/mine.conf", []byte("server { listen 127.0.0.1:8081; }\n"), 0o644)
	g.base.Sites = g.base.Sites[:1]
	_, d := g.look(baseAddr, g.base)
	waited := time.Duration(0)
	ctx := provider.Waiting(context.Background(), func(do func(context.Context) error) error {
		start := time.Now()
		defer func() { waited += time.Since(start) }()
		return do(context.Background())
	})
	err := Driver{}.Apply(ctx, g.h, baseAddr, g.base, d)
	if err == nil || !strings.Contains(err.Error(), "was told to reload and still has") {
		t.Fatalf("got %v", err)
	}
	if waited < loadLimit { // it is the whole of it: none is waited for under the lock
		t.Errorf("without the lock it waited for %s of %s", waited, loadLimit)
	}
	if _, d := g.look(baseAddr, g.base); !d.Has("loaded") || d.Has(confFile(g.base)) {
		t.Errorf("got %+v", d)
	}
}

func TestUnreachableWebroot(t *testing.T) {
	g := newGateway(t)
	shut := filepath.Join(g.dir, "shut")
	if err := os.Mkdir(shut, 0o700); err != nil {
		t.Fatal(err)
	}
	g.base.Webroot = filepath.Join(shut, "webroot")
	_, d := g.look(baseAddr, g.base)
	if err := (Driver{}).Apply(context.Background(), g.h, baseAddr, g.base, d); err == nil ||
		!strings.Contains(err.Error(), "/run/gateway/shut has mode 0700") {
		t.Errorf("got %v", err)
	}
}

func TestManyLongNames(t *testing.T) {
	g := newGateway(t)
	g.certify()
	label := strings.Repeat("x", 60)
	for i := range 700 {
		name := fmt.Sprintf("n%d.%s.%s.%s.test.internal", i, label, label, label)
		g.base.Sites = append(g.base.Sites, spec.NginxSite{Name: name, Upstream: "127.0.0.2:8443"})
	}
	g.tls.Sites = g.base.Sites
	g.run() // nginx -t is the judge
	g.start()
	if n := g.run(); n != 0 {
		t.Errorf("%d changes", n)
	}
}

// Names come and go: each part is checked beside the other's old state, whatever that is.
func TestNamesComeAndGo(t *testing.T) {
	g := newGateway(t)
	g.certify()
	long := strings.Repeat(strings.Repeat("x", 50)+".", 6)
	name := func(i, size int) string {
		n := fmt.Sprintf("n%d.", i)
		return n + long[len(long)-(size-len(n)-len("internal")):] + "internal"
	}
	states := map[string][]spec.NginxSite{"none": nil, "short": {{Name: "a.internal", Upstream: "127.0.0.2:8443"}},
		"one of 253": {{Name: name(0, 253), Upstream: "127.0.0.2:8443"}}}
	for i := range 1000 {
		states["thousand of 253"] = append(states["thousand of 253"], spec.NginxSite{Name: name(i, 253)})
	}
	if got := len(states["one of 253"][0].Name); got != 253 {
		t.Fatalf("a name of %d", got)
	}
	for _, step := range [][2]string{ // the base's names and the TLS part's: an apply that was killed leaves two
		{"none", "none"}, {"thousand of 253", "none"}, {"thousand of 253", "thousand of 253"},
		{"short", "thousand of 253"}, {"thousand of 253", "short"}, {"one of 253", "one of 253"}, {"short", "one of 253"},
		{"short", "short"}, {"one of 253", "short"}, {"none", "one of 253"}, {"none", "none"},
	} {
		base, tls := g.base, g.tls
		base.Sites, tls.Sites = states[step[0]], states[step[1]]
		g.makeTrue(g.h, baseAddr, base)
		g.makeTrue(g.h, tlsAddr, tls)
	}
}

func TestDecode(t *testing.T) {
	good := spec.Nginx{Part: "tls", Dir: "/etc/nginx", Webroot: "/w", Certificate: "/c", Key: "/k", RootFile: "/r",
		Sites: []spec.NginxSite{{Name: "a.internal", Upstream: "10.0.0.1:443"}}}
	for name, change := range map[string]func(*spec.Nginx){
		"":                                    func(*spec.Nginx) {},
		"not a DNS name":                      func(s *spec.Nginx) { s.Sites[0].Name = "a; return 200" },
		"is there twice":                      func(s *spec.Nginx) { s.Sites = append(s.Sites, s.Sites[0]) },
		"is not an IP address":                func(s *spec.Nginx) { s.Sites[0].Upstream = "traefik:443" },
		"not an absolute path":                func(s *spec.Nginx) { s.Key = "/k; user root" },
		"none of \"base\", \"tls\" and \"own": func(s *spec.Nginx) { s.Part = "both" },
	} {
		s := good
		s.Sites = append([]spec.NginxSite{}, good.Sites...)
		change(&s)
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		_, diags := Driver{}.Decode(raw)
		if got := fmt.Sprint(diags); diags.HasErrors() != (name != "") || !strings.Contains(got, name) {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestRenderedInOneOrder(t *testing.T) {
	a := spec.Nginx{Part: "tls", Sites: []spec.NginxSite{{Name: "a.internal"},
		{Name: "b.internal", Challenge: "10.0.0.1:80"}, {Name: "c.internal"}}}
	b := a
	b.Sites = []spec.NginxSite{a.Sites[2], a.Sites[0], a.Sites[1]}
	for _, part := range []string{spec.NginxBase, spec.NginxTLS} {
		a.Part, b.Part = part, part
		if render(a, "t") != render(b, "t") {
			t.Errorf("%s depends on the order of the sites", part)
		}
	}
}
