package health

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// backendParams is where a route ends.
type backendParams struct {
	URL       string `json:"url"`
	Container string `json:"container,omitempty"` // that the application is in; empty: it is elsewhere
	Name      string `json:"name,omitempty"`
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
	return c.pass(c.backend(p)+" takes connections", target)
}

// routeParams is a name as a client asks for it.
type routeParams struct {
	Gateway endpoint `json:"gateway"`
	Anchor  anchor   `json:"anchor"`
	Backend string   `json:"backend,omitempty"` // its URL, to tell its own 404 from one on the way; empty: it has none
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
	a, err := ask(ctx, h, p.Gateway, roots, "/")
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
		a, err = ask(ctx, h, endpoint{Dial: target, Name: p.Gateway.Name}, nil, "/")
	} else if conn, derr := h.Dial(ctx, "tcp", target); derr == nil {
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		a, err = get(h, conn, p.Gateway.Name, "/")
	} else {
		err = derr
	}
	return err == nil && a.code == http.StatusNotFound
}
