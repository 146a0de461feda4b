package nginx

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

const ownAddr = object.Address("nginx/101/own")

// withOwn is a running gateway with TLS, and the spec of the users' snippets.
func withOwn(t *testing.T) (*gateway, spec.Nginx) {
	t.Helper()
	g := newGateway(t)
	g.certify()
	g.run()
	g.start()
	own := g.base
	own.Part, own.Sites = spec.NginxOwn, nil
	return g, own
}

func (g *gateway) snippet(name, text string) {
	g.t.Helper()
	file := filepath.Join("/etc/nginx/own", name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		g.t.Fatal(err)
	}
	g.write(file, []byte(text), 0o644)
}

func (g *gateway) status(path string) (int, string) {
	g.t.Helper()
	resp, err := g.client().Get("https://a.test.internal" + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestOwnConformance(t *testing.T) {
	conformance.Run(t, conformance.Case{Driver: New(), Fresh: func(t *testing.T) (host.Host, object.Object) {
		g, own := withOwn(t)
		g.snippet("http/mine.conf", "map $uri $mine { default 1; }\n")
		return g.h, asObject(t, ownAddr, own)
	}, Break: map[string]conformance.Damage{
		"a lost copy": func(t *testing.T, _ host.Host, _ object.Object) {
			if err := os.RemoveAll("/etc/nginx/phoenix-own"); err != nil {
				t.Fatal(err)
			}
		},
		"an edited copy": func(t *testing.T, _ host.Host, _ object.Object) {
			if err := os.WriteFile("/etc/nginx/phoenix-own/http/mine.conf", []byte("# other\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	}, Not: map[string]string{"foreign": "the users' own files are only read"}})
}

// Snippets are served, change and go; what nginx does not take is named with its line, and stays out.
func TestOwnSnippets(t *testing.T) {
	g, own := withOwn(t)
	if st, d := g.look(ownAddr, own); !d.Empty() {
		t.Fatalf("without a snippet there is something to do: %+v %+v", d, st)
	}
	g.snippet("http/mine.conf", "map $uri $mine { default yes; }\n")
	g.snippet("a.test.internal/robots.conf", "location = /robots.txt { return 200 \"$mine\"; }\n")
	g.snippet("unknown.test.internal/x.conf", "location = /x { return 204; }\n")
	g.snippet("http/README", "nonsense\n")
	g.makeTrue(g.h, ownAddr, own)
	if code, body := g.status("/robots.txt"); code != http.StatusOK || body != "yes" {
		t.Errorf("%d %q", code, body)
	}
	g.snippet("a.test.internal/robots.conf", "# a comment\nlocation = /robots.txt { retrun 200 no; }\n")
	refusedSnippet(t, g, own, "/etc/nginx/own/a.test.internal/robots.conf:2", `unknown directive "retrun"`)
	if code, body := g.status("/robots.txt"); code != http.StatusOK || body != "yes" {
		t.Errorf("a broken snippet took the good one away: %d %q", code, body)
	}
	if err := os.RemoveAll("/etc/nginx/own"); err != nil {
		t.Fatal(err)
	}
	g.makeTrue(g.h, ownAddr, own)
	if code, _ := g.status("/robots.txt"); code == http.StatusOK {
		t.Error("what was taken out is still served")
	}
	left, err := os.ReadDir("/etc/nginx/phoenix-own/http")
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func refusedSnippet(t *testing.T, g *gateway, own spec.Nginx, wants ...string) {
	t.Helper()
	_, d := g.look(ownAddr, own)
	err := Driver{}.Apply(context.Background(), g.h, ownAddr, own, d)
	if err == nil || provider.Hint(err) == "" {
		t.Fatalf("got %v", err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := os.Stat("/etc/nginx/phoenix-next"); !os.IsNotExist(err) {
		t.Errorf("the checked one is left behind: %v", err)
	}
}

// A snippet that repeats what phoenix says itself is found, though nginx names phoenix's file.
func TestOwnSnippetThatRepeats(t *testing.T) {
	g, own := withOwn(t)
	g.snippet("http/fine.conf", "map $uri $fine { default 1; }\n")
	g.snippet("http/repeats.conf", "proxy_read_timeout 5s;\n")
	refusedSnippet(t, g, own, "/etc/nginx/own/http/repeats.conf", `"proxy_read_timeout" directive is duplicate`)
}

// A snippet that was good, and is not beside what phoenix says now, holds up neither the base nor the names.
func TestOwnSnippetsHoldNothingUp(t *testing.T) {
	g, own := withOwn(t)
	needed := filepath.Join(g.dir, "needed")
	g.write(needed, []byte("map $uri $needed { default 1; }\n"), 0o644)
	g.snippet("http/mine.conf", "include "+needed+";\n")
	g.makeTrue(g.h, ownAddr, own)
	for _, part := range []struct {
		a object.Address
		s *spec.Nginx
	}{{tlsAddr, &g.tls}, {baseAddr, &g.base}} {
		g.write(needed, []byte("map $uri $needed { default 1; }\n"), 0o644)
		g.makeTrue(g.h, ownAddr, own)
		if err := os.Remove(needed); err != nil {
			t.Fatal(err)
		}
		part.s.Sites = part.s.Sites[:2]
		g.makeTrue(g.h, part.a, *part.s)
		refusedSnippet(t, g, own, "/etc/nginx/own/http/mine.conf:1", needed)
	}
}
