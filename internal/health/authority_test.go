package health

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const (
	caName     = "ca.test"
	caDial     = "10.0.0.10:9000"
	acmePath   = "/acme/acme/directory"
	day        = 24 * time.Hour
	acmeAnswer = `{"newNonce":"https://x/n","newAccount":"https://x/a","newOrder":"https://x/o"}`
	onlyACME   = `{"provisioners":[{"type":"ACME","name":"acme","challenges":["http-01"]}],"nextCursor":""}`
	alsoJWK    = `{"provisioners":[{"type":"ACME","name":"acme"},{"type":"JWK","name":"admin"}],"nextCursor":""}`
)

// stepCA is a CA on loopback with the addresses of step-ca; change replaces one of them.
func stepCA(t *testing.T, h *fakeHost, ca *authorityFake, leaf leafFake, change map[string]http.Handler) caParams {
	mux := http.NewServeMux()
	paths := map[string]http.Handler{
		"/health": replies(200, `{"status":"ok"}`), "/roots.pem": replies(200, pemOf(ca.root)),
		"/provisioners": replies(200, onlyACME), acmePath: replies(200, acmeAnswer),
	}
	for path, handler := range change {
		paths[path] = handler
	}
	for path, handler := range paths {
		mux.Handle(path, handler)
	}
	h.dials["tcp "+caDial] = serve(t, leaf, mux)
	e := endpoint{Dial: caDial, Name: caName}
	return caParams{
		CA: e, Anchor: anchor{Fingerprint: fingerprint(ca.root), CA: e}, Path: acmePath, Provisioner: "acme",
		LeafLife: spec.Duration(day),
	}
}

// answering is a well CA but for one path.
func answering(path string, code int, body string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		ca := newAuthority(t)
		return stepCA(t, h, ca, ca.fresh(caName), map[string]http.Handler{path: replies(code, body)})
	}
}

func wellCA(t *testing.T, h *fakeHost) any { return answering("/other", 200, "")(t, h) }

// rootless is a CA with another root than the pinned one.
func rootless(t *testing.T, h *fakeHost) any {
	p := wellCA(t, h).(caParams)
	p.Anchor.Fingerprint = fingerprint(newAuthority(t).root)
	return p
}

// misnamed is a CA that has no certificate for its name.
func misnamed(t *testing.T, h *fakeHost) any {
	ca := newAuthority(t)
	return stepCA(t, h, ca, ca.fresh("other.test"), nil)
}

func downCA(*testing.T, *fakeHost) any {
	e := endpoint{Dial: caDial, Name: caName}
	return caParams{CA: e, Anchor: anchor{Fingerprint: "ab", CA: e}, Path: acmePath}
}

func unpinned(t *testing.T, h *fakeHost) any {
	p := wellCA(t, h).(caParams)
	p.Anchor.Fingerprint = ""
	return p
}

// aged is a CA whose intermediate lives that long from now.
func aged(left time.Duration) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		ca := newAuthority(t)
		ca.betweenLife = left
		ca.mint()
		return stepCA(t, h, ca, ca.fresh(caName), nil)
	}
}

// offset is a host whose clock is wrong.
func offset(by time.Duration) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		h.clock = func() time.Time { return time.Now().Add(by) }
		p := wellCA(t, h).(caParams)
		return caParams{CA: p.CA}
	}
}

// trusting is a host whose store has the root of the CA, or another one.
func trusting(right bool, name string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		ca, other := newAuthority(t), newAuthority(t)
		store := pemOf(other.root)
		if right {
			store += pemOf(ca.root)
		}
		h.put(systemBundle, 0o644, 0, 0, store)
		return stepCA(t, h, ca, ca.fresh(name), nil)
	}
}

func pinFile(data string, mode uint32, uid int) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.put("/pins/103", spec.Mode(mode).Perm(), uid, 0, data)
		return spec.Pin{Path: "/pins/103"}
	}
}

const print64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func authorityCases() []runCase {
	return []runCase{
		{kindPin, "pinned", pinFile(print64+"\n", 0o644, 0), Pass, print64},
		{kindPin, "empty", pinFile("\n", 0o644, 0), Fail, "no SHA-256"},
		{kindPin, "two", pinFile(print64+"\n"+strings.Repeat("5a", 32)+"\n", 0o644, 0), Fail, "another of its kind"},
		{kindPin, "writable", pinFile(print64, 0o666, 0), Fail, "0666"},
		{kindPin, "foreign", pinFile(print64, 0o600, 1000), Fail, "1000:0"},
		{kindPin, "absent", func(*testing.T, *fakeHost) any { return spec.Pin{Path: "/pins/103"} }, Fail,
			"does not exist"},
		{kindRoot, "pinned", wellCA, Pass, "pinned"},
		{kindRoot, "another", rootless, Fail, "served "},
		{kindRoot, "unpinned", unpinned, Fail, errNoPin.Error()},
		{kindRoot, "down", downCA, Skip, "connection refused"},
		{kindAuthority, "ok", wellCA, Pass, "status 200 in"},
		{kindAuthority, "ill", answering("/health", 500, `{"status":"error"}`), Fail, "status 500"},
		{kindAuthority, "not ok", answering("/health", 200, `{"status":"no"}`), Fail, `"no"`},
		{kindAuthority, "down", downCA, Fail, "connection refused"},
		{kindAuthority, "misnamed", misnamed, Fail, "ca.test"},
		{kindAuthority, "unpinned", unpinned, Fail, errNoPin.Error()},
		{kindAuthority, "no roots", answering("/roots.pem", 404, ""), Fail, "status 404"},
		{kindDirectory, "answers", wellCA, Pass, "status 200"},
		{kindDirectory, "absent", answering(acmePath, 404, "{}"), Fail, "status 404"},
		{kindDirectory, "incomplete", answering(acmePath, 200, `{"newNonce":"x"}`), Fail, "no newAccount"},
		{kindDirectory, "down", downCA, Fail, "connection refused"},
		{kindDirectory, "misnamed", misnamed, Fail, "ca.test"},
		{kindAuthorityLife, "long", wellCA, Pass, `"Test Intermediate" expires in 3649d`},
		{kindAuthorityLife, "near its end", aged(day + time.Hour), Fail, `"Test Intermediate" expires in 1d`},
		{kindAuthorityLife, "short but young", aged(40 * day), Pass, "expires in 39d"},
		{kindAuthorityLife, "another root", rootless, Fail, "no root with the pinned fingerprint"},
		{kindAuthorityLife, "down", downCA, Fail, "connection refused"},
		{kindProvisioners, "acme", wellCA, Pass, "ACME acme"},
		{kindProvisioners, "more", answering("/provisioners", 200, alsoJWK), Fail, "JWK admin"},
		{kindProvisioners, "none", answering("/provisioners", 200, `{"provisioners":[]}`), Fail, "wanted: ACME acme"},
		{kindProvisioners, "unreadable", answering("/provisioners", 500, "x"), Fail, "status 500"},
		{kindProvisioners, "down", downCA, Fail, "connection refused"},
		{kindProvisioners, "misnamed", misnamed, Fail, "ca.test"},
		{kindClock, "right", offset(0), Pass, "less than"},
		{kindClock, "ahead", offset(5 * time.Minute), Fail, "ahead of the CA's"},
		{kindClock, "behind", offset(-5 * time.Minute), Fail, "behind the CA's"},
		{kindClock, "down", downCA, Skip, "connection refused"},
		{kindTrust, "trusted", trusting(true, caName), Pass, "verified with the system's store"},
		{kindTrust, "another root", trusting(false, caName), Fail, "not in the system's store"},
		{kindTrust, "misnamed", trusting(true, "other.test"), Fail, "do not trust"},
		{kindTrust, "no store", wellCA, Fail, "cannot be read"},
	}
}

func TestEndpoint(t *testing.T) {
	e, path, err := endpointOf("https://ca.test:9000/acme/acme/directory")
	if err != nil || e != (endpoint{Dial: "ca.test:9000", Name: caName}) || path != acmePath {
		t.Errorf("got %+v %s %v", e, path, err)
	}
	if e, _, err := endpointOf("https://ca.test"); err != nil || e.Dial != "ca.test:443" {
		t.Errorf("got %+v %v", e, err)
	}
	if _, _, err := endpointOf("http://ca.test"); err == nil {
		t.Error("http is no https address")
	}
}
