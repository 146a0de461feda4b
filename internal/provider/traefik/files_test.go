package traefik

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
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

const directory = "https://ca.test.internal:9000/acme/acme/directory"

func TestConfigConformance(t *testing.T) {
	damage := func(change func(s spec.Traefik) error) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, o object.Object) {
			var s spec.Traefik
			if err := json.Unmarshal(o.Spec, &s); err != nil {
				t.Fatal(err)
			}
			if err := change(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	root := sandbox.NewAuthority(t, t.TempDir())
	conformance.Run(t, conformance.Case{
		Driver:   New(),
		Volatile: []string{"files", "inputs"}, // hold the test's temporary directory
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			p := newProxy(t, root, directory)
			return p.h, asObject(t, configAddr, p.config)
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a lost static file": damage(func(s spec.Traefik) error { return os.Remove(staticFile(s)) }),
			"edited routes": damage(func(s spec.Traefik) error {
				return os.WriteFile(routesFile(s), []byte("{}"), 0o640)
			}),
			"an open storage": damage(func(s spec.Traefik) error { return os.Chmod(s.Storage, 0o644) }),
			"root's storage":  damage(func(s spec.Traefik) error { return os.Chown(s.Storage, 0, 0) }),
			"a lost storage":  damage(func(s spec.Traefik) error { return os.Remove(s.Storage) }),
			"a broken storage": damage(func(s spec.Traefik) error {
				return os.WriteFile(s.Storage, []byte("{\"phoenix\": 1"), 0o600)
			}),
			"an open directory":   damage(func(s spec.Traefik) error { return os.Chmod(s.Dir, 0o777) }),
			"a check left behind": damage(func(s spec.Traefik) error { return os.WriteFile(nextFile(s), nil, 0o600) }),
		},
	})
}

func TestBrokenStorageIsKeptAside(t *testing.T) {
	p := newProxy(t, sandbox.NewAuthority(t, t.TempDir()), directory)
	p.makeTrue(p.config)
	if err := os.WriteFile(p.config.Storage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.makeTrue(p.config)
	if text, err := os.ReadFile(p.config.Storage + ".broken"); string(text) != "garbage" {
		t.Errorf("got %q %v", text, err)
	}
}

// The patterns on what Traefik says are its own: the real one is asked.
func TestRealTraefikChecks(t *testing.T) {
	binary := sandbox.Tool(t, "PHOENIX_TRAEFIK", "traefik")
	p := newProxy(t, sandbox.NewAuthority(t, t.TempDir()), directory)
	p.config.Binary = binary
	p.makeTrue(p.config)
	good := string(renderStatic(p.config))
	for name, c := range map[string]struct {
		from, to string
		refused  bool
	}{
		"ours":               {"", "", false},
		"an unknown key":     {`"caServer"`, `"caServerx"`, true},
		"a wrong type":       {`"certificatesDuration": 24`, `"certificatesDuration": "x"`, true},
		"no JSON":            {`"global": {`, `"global": `, true},
		"unknown at the top": {`"ping"`, `"pingx"`, false}, // Traefik passes over it: a reason to render from constants
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		e := entry{path: staticFile(p.config), content: []byte(text), mode: 0o640, owner: host.Root}
		err := check(context.Background(), p.h, p.config, e)
		if (err != nil) != c.refused || (c.refused && !provider.IsPermanent(err)) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(nextFile(p.config)); err == nil {
			t.Errorf("%s: the checked file is left behind", name)
		}
	}
}

func TestDecode(t *testing.T) {
	good := spec.Traefik{
		Part: "config", Dir: "/etc/traefik", Storage: "/s/acme.json", User: "traefik",
		ACME:   spec.ACME{Directory: directory, RootFile: "/r"},
		Routes: []spec.TraefikRoute{{Name: "app", Hosts: []string{"a.internal"}, URL: "http://10.0.0.1:80"}},
	}
	for want, change := range map[string]func(*spec.Traefik){
		"":                    func(s *spec.Traefik) { s.OwnName = "traefik.internal" },
		"is in two routes":    func(s *spec.Traefik) { s.OwnName = "a.internal" },
		"is not a DNS name":   func(s *spec.Traefik) { s.Routes[0].Hosts[0] = "a`) || Host(`b" },
		"names are lower":     func(s *spec.Traefik) { s.Routes[0].Name = "phoenix-api" },
		"has no host":         func(s *spec.Traefik) { s.Routes[0].Hosts = nil },
		"is not the address":  func(s *spec.Traefik) { s.Routes[0].URL = "10.0.0.1:80" },
		"is not known":        func(s *spec.Traefik) { s.Challenge = "dns-01" },
		"not an absolute":     func(s *spec.Traefik) { s.Storage = "acme.json" },
		"is not an https":     func(s *spec.Traefik) { s.ACME.Directory = "http://ca" },
		"is not the SHA-256":  func(s *spec.Traefik) { s.Fingerprint = "ab" },
		"neither \"config\" ": func(s *spec.Traefik) { s.Part = "" },
	} {
		s := good
		s.Routes = []spec.TraefikRoute{{Name: "app", Hosts: []string{"a.internal"}, URL: "http://10.0.0.1:80"}}
		change(&s)
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		_, diags := Driver{}.Decode(raw)
		if got := fmt.Sprint(diags); diags.HasErrors() != (want != "") || !strings.Contains(got, want) {
			t.Errorf("want %q: %s", want, got)
		}
	}
}

func TestInputsChangeWithTheStaticFileOnly(t *testing.T) {
	p := newProxy(t, sandbox.NewAuthority(t, t.TempDir()), directory)
	first := p.makeTrue(p.config).Inputs
	p.config.Routes = p.config.Routes[:1]
	if again := p.makeTrue(p.config).Inputs; again != first || first == "" {
		t.Errorf("a route changed the inputs: %s %s", first, again)
	}
	p.config.Challenge = spec.TLSALPN01
	if again := p.makeTrue(p.config).Inputs; again == first {
		t.Error("another challenge did not")
	}
	if n, err := filepath.Glob(filepath.Join(p.config.Dir, "*")); err != nil || len(n) != 2 {
		t.Errorf("in the directory: %v %v", n, err)
	}
}

// The one that stands in is the same, but for where it listens and where its certificates are; it takes nothing of the
// other's.
func TestCoverIsTheSame(t *testing.T) {
	s := spec.Traefik{Dir: "/etc/traefik", Storage: "/etc/traefik/certs/acme.json", Challenge: spec.HTTP01,
		Cover: "traefik-cover.service",
		ACME:  spec.ACME{Directory: "https://ca:9000/acme/acme/directory", RootFile: "/root.crt"}}
	own, cover := string(renderStatic(s)), string(renderCover(s))
	for _, taken := range []string{"127.0.0.1:8079", `":443"`, `":80"`, s.Storage} {
		if !strings.Contains(own, taken) || strings.Contains(cover, taken) {
			t.Errorf("%s: in its own %v, in the other's %v", taken, strings.Contains(own, taken),
				strings.Contains(cover, taken))
		}
	}
	same := strings.NewReplacer(coverAddress, localAddress, `":8443"`, `":443"`, `"127.0.0.1:8081"`, `":80"`,
		coverDir+"/acme.json", s.Storage)
	if got := same.Replace(cover); got != own {
		t.Errorf("they differ in more:\n%s\n%s", got, own)
	}
}

// One that could not serve what Traefik does is not started.
func TestCoverNeedsWhatIsServed(t *testing.T) {
	root := sandbox.NewAuthority(t, t.TempDir())
	chain, key := root.Issue(t, time.Now().Add(time.Hour), "a.test.internal")
	block, _ := pem.Decode(chain)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	full, err := json.Marshal(
		map[string]any{resolver: map[string]any{"Certificates": []storedCert{{Certificate: chain, Key: key}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := spec.Traefik{Storage: filepath.Join(t.TempDir(), "acme.json")}
	served, other, none := Certificate{Serial: leaf.SerialNumber.Text(16)}, Certificate{Serial: "4711"},
		Certificate{Problem: notIssued}
	for _, c := range []struct {
		storage string
		have    []Certificate
		want    bool
	}{
		{string(full), []Certificate{served, none}, true},
		{string(full), []Certificate{served, other}, false},
		{string(full), []Certificate{none}, false},
		{"", []Certificate{served}, false},
		{"garbage", []Certificate{served}, false},
	} {
		if err := os.WriteFile(s.Storage, []byte(c.storage), 0o600); err != nil {
			t.Fatal(err)
		}
		if inStorage(context.Background(), &host.Local{}, s, &Status{Certificates: c.have}) != c.want {
			t.Errorf("storage %.20q, served %+v: want %t", c.storage, c.have, c.want)
		}
	}
}
