package gateway

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/traefik"
)

// What a traefik_service may ask for besides its names, as a client of the gateway gets it.
func TestExtrasOfRoutes(t *testing.T) {
	other := sandbox.NewAuthority(t, t.TempDir())
	users := ""
	s := newSite(t, func(s *site) {
		users = filepath.Join(s.dir, "users")
		// htpasswd -b -n -s ann secret: {SHA}
		s.write(users, []byte("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"))
		r := s.traefik.Routes
		r[0].Paths, r[0].AllowFrom = []string{"/proto", "/deep/er", "/headers"}, []string{"127.0.0.0/8", "10.99.0.1/32"}
		r[0].Headers = []string{"X-Frame-Options: DENY"}
		r[1].RootFile = other.RootFile
		r[2].UsersFile = users
		r[0].RequestHeaders = []string{"X-Large: of the file", "X-Secret:"}
		r[0].Redirects = []spec.Redirect{{From: "/old", To: "/deep/er"}, {From: movedName, To: "new.test.internal"}}
		r[0].Hosts = append(r[0].Hosts, movedName)
		s.nginx.Sites = append(s.nginx.Sites, spec.NginxSite{Name: movedName, Upstream: s.nginx.Sites[0].Upstream})
	})
	pair, err := tls.X509KeyPair(other.Issue(t, time.Now().Add(time.Hour), secureName))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ":8000", true, false, nil)
	serve(t, ":8001", false, true, nil)
	serve(t, ":8443", true, true, &tls.Config{Certificates: []tls.Certificate{pair}})
	status := func(name, path string, header http.Header) int {
		t.Helper()
		resp, _ := s.get(t, true, name, path, header)
		return resp.StatusCode
	}
	want := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d\n%s", what, got, want, s.log("traefik"))
		}
	}
	resp, _ := s.get(t, true, plainName, "/proto", nil)
	want("a path that is there", resp.StatusCode, http.StatusOK)
	if got := resp.Header.Get("X-Frame-Options"); got != "DENY" {
		t.Errorf("the response has X-Frame-Options %q", got)
	}
	s.redirects(t)
	want("a path that is not", status(plainName, "/origin", nil), http.StatusNotFound)
	want("a path that only begins so", status(plainName, "/protocol", nil), http.StatusNotFound)
	want("a backend that another CA signed for", status(secureName, "/proto", nil), http.StatusOK)
	auth := http.Header{"Authorization": {"Basic YW5uOnNlY3JldA=="}} // ann:secret
	want("nobody", status(h2cName, "/proto", nil), http.StatusUnauthorized)
	want("ann", status(h2cName, "/proto", auth), http.StatusOK)

	// Another network: what the client says about itself does not help.
	s.traefik.Routes[0].AllowFrom = []string{"203.0.113.0/24"}
	s.write(users, []byte("bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"))
	own, before := filepath.Join(s.traefik.Dir, "dynamic", "own.yml"), ""
	if text, err := os.ReadFile(own); err == nil {
		before = string(text)
	}
	s.applyTraefik()
	sandbox.Until(t, 5*time.Second, "the new network holds", func() error {
		if got := status(plainName, "/proto", nil); got != http.StatusForbidden {
			return errStatus(got)
		}
		return nil
	})
	want("a forged address", status(plainName, "/proto", http.Header{"X-Forwarded-For": {"203.0.113.9"}}),
		http.StatusForbidden)
	want("a user that was taken out", status(h2cName, "/proto", auth), http.StatusUnauthorized)
	if text, err := os.ReadFile(own); err != nil || string(text) != before || before == "" {
		t.Errorf("the user's own file: %q, %v", text, err)
	}
	if err := os.Remove(users); err != nil {
		t.Fatal(err)
	}
	s.applyTraefik()
	sandbox.Until(t, 5*time.Second, "without its users a route is closed", func() error {
		if got := status(h2cName, "/proto", auth); got != http.StatusNotFound {
			return errStatus(got)
		}
		return nil
	})
}

const movedName = "moved.test.internal"

// redirects follows none: where each leads to, and with what.
func (s *site) redirects(t *testing.T) {
	t.Helper()
	for from, to := range map[string]string{
		"https://" + plainName + "/old":       "https://" + plainName + "/deep/er",
		"https://" + plainName + "/old/x?y=1": "https://" + plainName + "/deep/er/x?y=1",
		"https://" + movedName + "/any/x?y=1": "https://new.test.internal/any/x?y=1",
		"https://" + plainName + "/older":     "",
		"https://" + plainName + "/proto":     "",
	} {
		c := s.client(true)
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := c.Get(from)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); got != to || to != "" && resp.StatusCode/100 != 3 {
			t.Errorf("%s: %s to %q, want %q", from, resp.Status, got, to)
		}
	}
	resp, _ := s.get(t, true, plainName, "/headers", http.Header{"X-Large": {"of the client"}})
	if got := resp.Header.Get("X-Large"); got != "of the file" {
		t.Errorf("the application got %q", got)
	}
}

type errStatus int

func (e errStatus) Error() string { return http.StatusText(int(e)) }

func (s *site) applyTraefik() {
	s.t.Helper()
	apply(s.t, "traefik/102/config", s.traefik, traefik.Driver{}.Observe, traefik.Driver{}.Diff, traefik.Driver{}.Apply)
}
