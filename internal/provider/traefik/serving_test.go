package traefik

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

const day = 24 * time.Hour

// shifted is a host whose clock is off.
type shifted struct {
	host.Host
	by time.Duration
}

func (s shifted) Now() time.Time { return s.Host.Now().Add(s.by) }

func startAll(t *testing.T) (*proxy, *sandbox.CA) {
	t.Helper()
	sandbox.Tool(t, "PHOENIX_TRAEFIK", "traefik")
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal", "c.test.internal", "traefik.test.internal",
		sandbox.Hidden)
	return newProxy(t, ca.Authority, ca.Directory), ca
}

func TestCertificatesConformance(t *testing.T) {
	sandbox.Tool(t, "PHOENIX_TRAEFIK", "traefik")
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal", "c.test.internal")
	conformance.Run(t, conformance.Case{
		Driver: New(), Volatile: []string{"accounts", "certificates"}, // new each time
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			p := newProxy(t, ca.Authority, ca.Directory)
			p.makeTrue(p.config)
			p.served.OrderTimeout = spec.Duration(time.Minute) // other tests may keep the processors busy
			p.start()                                          // and is looked at before it has issued anything
			return p.h, asObject(t, servedAddr, p.served)
		},
	})
}

func TestIssuesAndRoutes(t *testing.T) {
	for _, challenge := range []string{spec.HTTP01, spec.TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			p, ca := startAll(t)
			p.config.Challenge, p.served.Challenge = challenge, challenge
			p.config.OwnName, p.served.OwnName = "traefik.test.internal", "traefik.test.internal"
			p.config.Gateways = []string{"127.0.0.7"}
			p.makeTrue(p.config)
			p.start()
			began := time.Now()
			st := p.makeTrue(p.served)
			t.Logf("certificates %s after it listened", time.Since(began).Round(time.Millisecond))
			if len(st.Certificates) != 4 || Driver.Next(Driver{}, p.served, st).Before(time.Now().Add(20*time.Hour)) {
				t.Errorf("got %+v", st.Certificates)
			}
			routes(t, ca)
			p.makeTrue(p.config) // Traefik wrote its storage: that is no drift
			if strings.Contains(p.log(), `"level":"error"`) || strings.Contains(p.log(), " ERR ") {
				t.Errorf("traefik complains:\n%s", p.log())
			}
		})
	}
}

func routes(t *testing.T, ca *sandbox.CA) {
	t.Helper()
	backend(t, "127.0.0.3:8080", "plain").Start()
	secure := backend(t, "127.0.0.3:8443", "secure")
	pair, err := tls.X509KeyPair(ca.Issue(t, time.Now().Add(time.Hour), "c.test.internal"))
	if err != nil {
		t.Fatal(err)
	}
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	secure.StartTLS()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()},
		DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for url, want := range map[string]string{
		"https://a.test.internal/":                  "plain a.test.internal",
		"https://b.test.internal/":                  "plain b.test.internal",
		"https://c.test.internal/":                  "secure c.test.internal",
		"https://traefik.test.internal/api/version": "OK", // the ping, whatever is asked for: no API
	} {
		resp, err := c.Get(url)
		if err != nil {
			t.Error(err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %q", url, resp.Status, body)
		}
	}
	for _, from := range []struct{ address, want string }{
		{"127.0.0.7", "for 203.0.113.5, 127.0.0.7 real 203.0.113.5 proto https host a.test.internal."},
		{"127.0.0.8", "for 127.0.0.8 real 127.0.0.8 proto https host a.test.internal."},
	} {
		if got := origin(t, ca, from.address); got != from.want {
			t.Errorf("a request from %s: %q, want %q", from.address, got, from.want)
		}
	}
	if resp, err := c.Get("https://foreign.test.internal/"); err == nil {
		resp.Body.Close()
		t.Error("a name without a certificate is served")
	}
}

// origin is what a backend hears about where a request came from, that comes from an address and says that it is of
// 203.0.113.5.
func origin(t *testing.T, ca *sandbox.CA, from string) string {
	t.Helper()
	dial := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()},
		DisableKeepAlives: true, DialContext: dial.DialContext}}
	req, err := http.NewRequest(http.MethodGet, "https://a.test.internal/origin", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.5")
	req.Header.Set("X-Real-Ip", "203.0.113.5")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// The CA is away when Traefik first asks. Traefik itself does not ask again.
func TestFirstIssuanceFails(t *testing.T) {
	p, ca := startAll(t)
	ca.Stop()
	p.makeTrue(p.config)
	p.start()
	sandbox.Until(t, 20*time.Second, "traefik fails", func() error {
		if !strings.Contains(p.log(), "Unable to obtain ACME certificate") {
			return fmt.Errorf("not yet:\n%s", p.log())
		}
		return nil
	})
	if st, d := p.look(p.served); !d.Has("certificate of a.test.internal") || st.Certificates[0].Problem != notIssued {
		t.Fatalf("got %+v", d)
	}
	ca.Start()
	pid := p.pid()
	p.makeTrue(p.served)
	if p.pid() != pid {
		t.Error("it was restarted, though telling it to look again is enough")
	}
}

// The challenge cannot be answered when the CA first looks: Traefik's client then waits for minutes, deaf to all else.
func TestHangingChallenge(t *testing.T) {
	p, ca := startAll(t)
	for _, s := range []*spec.Traefik{&p.config, &p.served} {
		s.Routes = []spec.TraefikRoute{{Name: "app", Hosts: []string{sandbox.Hidden}, URL: "http://127.0.0.3:8080"}}
	}
	p.makeTrue(p.config)
	p.start()
	sandbox.Until(t, 20*time.Second, "the CA tries in vain", func() error {
		if !strings.Contains(ca.Log(), "acme:error:connection") {
			return errors.New("not tried yet")
		}
		return nil
	})
	sandbox.Reveal(t)
	old := againShare
	p.served.OrderTimeout, againShare = spec.Duration(time.Minute), 30 // other tests may keep the processors busy
	defer func() { againShare = old }()
	pid := p.pid()
	p.makeTrue(p.served)
	if p.pid() == pid {
		t.Error("it was not restarted: is telling it to look again enough in this version?")
	}
}

// A person wants other certificates: Traefik gets them, with other keys, which by itself it would use again.
func TestWantedAnew(t *testing.T) {
	p, _ := startAll(t)
	p.served.OrderTimeout = spec.Duration(time.Minute) // other tests may keep the processors busy
	p.makeTrue(p.config)
	p.start()
	first := p.makeTrue(p.served)
	keys := p.keys()
	time.Sleep(1100 * time.Millisecond) // certificates tell time in seconds
	p.served.Renew = time.Now().Truncate(time.Second)
	if _, d := p.look(p.served); !d.Has("certificate of a.test.internal") {
		t.Fatalf("not seen: %+v", d)
	}
	second := p.makeTrue(p.served)
	for i, c := range second.Certificates {
		if c.Serial == first.Certificates[i].Serial {
			t.Errorf("%s has the certificate of before", c.Host)
		}
	}
	for _, k := range p.keys() {
		if strings.Contains(strings.Join(keys, " "), k) {
			t.Error("a key is used again")
		}
	}
}

// keys are those in Traefik's storage.
func (p *proxy) keys() (out []string) {
	p.t.Helper()
	all, _, err := readStorage(context.Background(), p.h, p.served.Storage)
	if err != nil {
		p.t.Fatal(err)
	}
	var data stored
	if err := json.Unmarshal(all[resolver], &data); err != nil {
		p.t.Fatal(err)
	}
	for _, raw := range data.Certificates {
		var c storedCert
		if err := json.Unmarshal(raw, &c); err != nil {
			p.t.Fatal(err)
		}
		out = append(out, string(c.Key))
	}
	if len(out) == 0 {
		p.t.Fatal("no keys in the storage")
	}
	return out
}

// The CA was made anew, with another root: what Traefik has is worth nothing, its account included.
func TestAnotherRoot(t *testing.T) {
	p, ca := startAll(t)
	p.makeTrue(p.config)
	p.start()
	p.makeTrue(p.served)
	ca.Stop()
	other := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal", "c.test.internal")
	for _, s := range []*spec.Traefik{&p.config, &p.served} {
		s.ACME.RootFile, s.Fingerprint = other.RootFile, other.Fingerprint
	}
	p.makeTrue(p.config) // another root file: its unit would restart it here
	_, d := p.look(p.served)
	if len(d.Fields) == 0 || !strings.HasPrefix(d.Fields[0].Have, foreign) {
		t.Fatalf("got %+v", d)
	}
	st := p.makeTrue(p.served)
	if st.Certificates[0].Problem != "" {
		t.Errorf("got %+v", st.Certificates[0])
	}
}

// The CA lost its database: Traefik's account is unknown, and it goes on serving what it has until it must renew.
func TestUnknownAccount(t *testing.T) {
	p, ca := startAll(t)
	p.makeTrue(p.config)
	p.start()
	before := p.makeTrue(p.served)
	ca.Forget()
	late := shifted{p.h, time.Until(Driver.Next(Driver{}, p.served, before)) + time.Minute}
	st, err := Driver{}.Observe(context.Background(), late, servedAddr, p.served)
	if err != nil {
		t.Fatal(err)
	}
	if d := (Driver{}).Diff(p.served, st); len(d.Fields) == 0 || !strings.HasPrefix(d.Fields[0].Have, overdue) {
		t.Fatalf("got %+v", d)
	}
	roots, err := readRoots(p.h, p.served)
	if err != nil {
		t.Fatal(err)
	}
	if err := purge(context.Background(), late, p.served, roots); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.served.Storage)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]stored
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if kept := all[resolver]; len(kept.Certificates) != 2 || string(kept.Account) != "null" {
		t.Errorf("%d certificates, account %.20s", len(kept.Certificates), kept.Account)
	}
	expiredOnes := shifted{p.h, 2 * day}
	if err := purge(context.Background(), expiredOnes, p.served, roots); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(p.served.Storage); strings.Contains(string(text), "certificate\"") {
		t.Error("expired certificates are still there")
	}
}

// A change of the routes that the running Traefik did not take up is seen, and mended.
func TestLoadedRoutes(t *testing.T) {
	p, _ := startAll(t)
	p.makeTrue(p.config)
	p.start()
	p.makeTrue(p.served)
	p.served.Routes[0].URL = "http://127.0.0.3:8081"
	if _, d := p.look(p.served); !d.Has("route app") {
		t.Fatalf("got %+v", d)
	}
	p.config.Routes = p.served.Routes
	p.makeTrue(p.config)
	p.makeTrue(p.served)
}

func TestNotListening(t *testing.T) {
	p := newProxy(t, sandbox.NewAuthority(t, t.TempDir()), directory)
	if st, d := p.look(p.served); d.Empty() || st.Certificates[0].Problem != notListening {
		t.Errorf("got %+v", st)
	}
}

// What Traefik makes for itself while it starts is no foreign certificate, for which it would have to be started anew.
func TestOwnCertificateIsNone(t *testing.T) {
	root := sandbox.NewAuthority(t, t.TempDir())
	var c Certificate
	c.judge([]*x509.Certificate{{Subject: pkix.Name{CommonName: ownName}, SerialNumber: big.NewInt(1)}}, spec.Traefik{},
		root.Pool(), time.Now())
	if c.Problem != notIssued || c.Serial != "" || !curable(&Status{Certificates: []Certificate{c}}) {
		t.Errorf("%+v", c)
	}
}
