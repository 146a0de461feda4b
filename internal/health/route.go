package health

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// backendParams is where a route ends.
type backendParams struct {
	URL       string `json:"url"`
	Container string `json:"container,omitempty"` // that the application is in; empty: it is elsewhere
	Name      string `json:"name,omitempty"`
	// ServerName and RootFile are what the proxy verifies an https backend by; without a file nothing is verified.
	ServerName string `json:"server_name,omitempty"`
	RootFile   string `json:"root_file,omitempty"`
}

// backend is the application that a route leads to, for people.
func (c Check) backend(p backendParams) string {
	if p.Container == "" {
		return "the backend of " + c.Subject
	}
	return "the application in container " + p.Container + " (" + p.Name + "), the backend of " + c.Subject + ","
}

// dialTarget is host:port of an http or https address.
func dialTarget(address string) (*url.URL, string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, "", fmt.Errorf("%q is not an address", address)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
	}
	if port == "" {
		port = "80"
	}
	return u, net.JoinHostPort(u.Hostname(), port), nil
}

// runBackend only connects: what the application answers is the whole route's check.
func runBackend(ctx context.Context, h host.Host, c Check, p backendParams) Result {
	_, target, err := dialTarget(p.URL)
	if err != nil {
		return c.fail("the backend's address cannot be read", err.Error(), validateFix)
	}
	conn, err := h.Dial(ctx, "tcp", target)
	if err != nil {
		return c.fail(c.backend(p)+" takes no connections", err.Error(), backendFix(target))
	}
	conn.Close()
	if err := verifyBackend(ctx, h, p, target); err != nil {
		return c.fail("the certificate of "+c.backend(p)+" cannot be verified: the proxy does not talk to it",
			err.Error(), signerFix)
	}
	return c.pass(c.backend(p)+" takes connections", target)
}

// verifyBackend looks at an https backend's certificate as the proxy does.
func verifyBackend(ctx context.Context, h host.Host, p backendParams, target string) error {
	if !strings.HasPrefix(p.URL, "https://") || p.RootFile == "" {
		return nil
	}
	text, err := h.ReadFile(p.RootFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s has no certificate in it", p.RootFile)
	}
	server, err := dialTLS(ctx, h, endpoint{Dial: target, Name: cmp.Or(p.ServerName, hostOf(target))})
	if err != nil {
		return err
	}
	defer server.Close()
	return server.verify(roots, h.Now())
}

// routeParams is a name as a client asks for it.
type routeParams struct {
	Gateway endpoint `json:"gateway"`
	Anchor  anchor   `json:"anchor"`
	Backend string   `json:"backend,omitempty"` // its URL, to tell its own 404 from one on the way; empty: it has none
	Path    string   `json:"path,omitempty"`    // that is asked for; empty: /
	// it answers nobody here: the hypervisor's check tells the two from one another
	Apart bool `json:"apart,omitempty"`
}

// runRoute asks for a name through gateway and proxy, verified to the pinned root.
func runRoute(ctx context.Context, h host.Host, c Check, p routeParams) Result {
	name := p.Gateway.Name
	roots, err := p.Anchor.pool(ctx, h)
	if err != nil {
		return c.fail(name+" cannot be verified", err.Error(), c.apply())
	}
	a, err := ask(ctx, h, p.Gateway, roots, cmp.Or(p.Path, "/"))
	if err != nil {
		return c.fail(name+" does not answer over verified TLS", err.Error(), c.apply())
	}
	switch {
	case a.code >= http.StatusInternalServerError:
		return c.fail(name+" answers with an error", a.String(), gatewayFix(c, a.code))
	case a.code == http.StatusNotFound && !p.Apart && !backendSays404(ctx, h, p):
		return c.fail(name+" has no route", a.String()+", and not from its backend", c.apply())
	}
	return c.pass(name+" answers end to end", a.String())
}

func gatewayFix(c Check, code int) string {
	switch code {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return c.apply() + "; why the gateway or the proxy does not get through: " +
			c.inside("tail /var/log/nginx/error.log")
	}
	return "look into the application's own log: it answers with an error"
}

// backendSays404 asks the backend directly. One that cannot be asked from here does not count.
func backendSays404(ctx context.Context, h host.Host, p routeParams) bool {
	u, target, err := dialTarget(p.Backend)
	if err != nil {
		return false
	}
	var a answer
	if u.Scheme == "https" {
		// Unverified: only the status code is compared, and nothing is sent that is not public.
		a, err = ask(ctx, h, endpoint{Dial: target, Name: p.Gateway.Name}, nil, cmp.Or(p.Path, "/"))
	} else if conn, derr := h.Dial(ctx, "tcp", target); derr == nil {
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		a, err = get(h, conn, p.Gateway.Name, cmp.Or(p.Path, "/"))
	} else {
		err = derr
	}
	return err == nil && a.code == http.StatusNotFound
}
