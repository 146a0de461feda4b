package health

import (
	"net/http/httptest"
	"testing"
)

// through is a route whose gateway answers with code; the backend, asked directly, with another (0: it cannot be
// asked).
func through(gateway, backend int, scheme string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		ca := newAuthority(t)
		h.put("/root.pem", 0o644, 0, 0, pemOf(ca.root))
		p := routeParams{
			Gateway: endpoint{"10.0.0.101:443", siteName}, Backend: scheme + "://10.0.0.201:8000",
			Anchor: anchor{Fingerprint: fingerprint(ca.root), File: "/root.pem"},
		}
		if gateway != 0 {
			h.dials["tcp 10.0.0.101:443"] = serve(t, ca.fresh(siteName), replies(gateway, ""))
		}
		if backend == 0 {
			return p
		}
		if scheme == "https" {
			h.dials["tcp 10.0.0.201:8000"] = serve(t, ca.fresh("backend"), replies(backend, ""))
			return p
		}
		s := httptest.NewServer(replies(backend, ""))
		t.Cleanup(s.Close)
		h.dials["tcp 10.0.0.201:8000"] = s.Listener.Addr().String()
		return p
	}
}

// backendSignedBy is a backend whose certificate is of the CA that it is verified by, or of another.
func backendSignedBy(right bool) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		ca, signer := newAuthority(t), newAuthority(t)
		if right {
			signer = ca
		}
		h.put("/root.pem", 0o644, 0, 0, pemOf(ca.root))
		h.dials["tcp 10.0.0.201:8443"] = serve(t, signer.fresh(siteName), replies(200, ""))
		return backendParams{URL: "https://10.0.0.201:8443", ServerName: siteName, RootFile: "/root.pem"}
	}
}

func routeCases() []runCase {
	return []runCase{
		{kindBackend, "takes connections", func(t *testing.T, h *fakeHost) any {
			h.dials["tcp 10.0.0.201:80"] = listen(t)
			return backendParams{URL: "http://10.0.0.201"}
		}, Pass, "10.0.0.201:80"},
		{kindBackend, "refuses", func(*testing.T, *fakeHost) any { return backendParams{URL: "https://10.0.0.201/x"} },
			Fail, "refused"},
		{kindBackend, "of the CA that it is verified by", backendSignedBy(true), Pass, "10.0.0.201:8443"},
		{kindBackend, "of another CA", backendSignedBy(false), Fail, "unknown authority"},
		{kindBackend, "no address", func(*testing.T, *fakeHost) any { return backendParams{URL: "::"} }, Fail,
			"is not an address"},
		{kindRoute, "ok", through(200, 0, "http"), Pass, "status 200 in"},
		{kindRoute, "redirects", through(302, 0, "http"), Pass, "status 302"},
		{kindRoute, "asks for a password", through(401, 0, "http"), Pass, "status 401"},
		{kindRoute, "bad gateway", through(502, 200, "http"), Fail, "status 502"},
		{kindRoute, "application error", through(500, 500, "http"), Fail, "status 500"},
		{kindRoute, "no route", through(404, 200, "http"), Fail, "not from its backend"},
		{kindRoute, "no route, backend down", through(404, 0, "http"), Fail, "not from its backend"},
		{kindRoute, "the backend's own 404", through(404, 404, "http"), Pass, "status 404"},
		{kindRoute, "the backend's own 404 over TLS", through(404, 404, "https"), Pass, "status 404"},
		{kindRoute, "gateway down", through(0, 200, "http"), Fail, "does not answer"},
		{kindRoute, "another certificate", func(t *testing.T, h *fakeHost) any {
			p := through(200, 0, "http")(t, h).(routeParams)
			p.Gateway.Name = "app.test"
			return p
		}, Fail, "not app.test"},
		{kindRoute, "no pin", func(t *testing.T, h *fakeHost) any {
			p := through(200, 0, "http")(t, h).(routeParams)
			p.Anchor.Fingerprint = ""
			return p
		}, Fail, errNoPin.Error()},
	}
}
