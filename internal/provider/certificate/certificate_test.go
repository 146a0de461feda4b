package certificate

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

const day = 24 * time.Hour

func TestConformance(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	damage := func(change func(dir string) error) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, o object.Object) {
			var s spec.Certificate
			if err := json.Unmarshal(o.Spec, &s); err != nil {
				t.Fatal(err)
			}
			if err := change(filepath.Dir(s.KeyPath)); err != nil {
				t.Fatal(err)
			}
		}
	}
	conformance.Run(t, conformance.Case{
		Driver: New(),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			s := specIn(room(t), ca)
			s.Reload = []string{"touch", filepath.Join(s.AccountDir, "..", "reloaded")}
			return &host.Local{}, asObject(t, s)
		},
		// "path" and "files" hold the test's temporary directory, the rest is new with each issuance.
		Volatile: []string{"serial", "not_before", "not_after", "renew_at", "path", "files", "accounts"},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a missing certificate": damage(func(d string) error { return os.Remove(filepath.Join(d, "tls.crt")) }),
			"a missing key":         damage(func(d string) error { return os.Remove(filepath.Join(d, "tls.key")) }),
			"all of it gone":        damage(os.RemoveAll),
			"garbage": damage(func(d string) error {
				return os.WriteFile(filepath.Join(d, "tls.crt"), []byte("x"), 0o644)
			}),
			"an open key": damage(func(d string) error {
				return os.Chmod(filepath.Join(d, "tls.key"), 0o644)
			}),
			"an open directory": damage(func(d string) error { return os.Chmod(d, 0o777) }),
			"a key's directory open": damage(func(d string) error {
				return os.Chmod(filepath.Join(d, "tls.key.d", current), 0o755)
			}),
			"a key of a stranger": damage(func(d string) error {
				return os.Chown(filepath.Join(d, "tls.key"), 4242, 4242)
			}),
			"an open account": damage(func(d string) error {
				return os.Chmod(filepath.Join(d, "..", "account", "account.json"), 0o644)
			}),
			"an old version": damage(func(d string) error {
				return os.Mkdir(filepath.Join(d, "tls.key.d", "0123"), 0o700)
			}),
			"a reload that was not": damage(func(d string) error {
				return os.WriteFile(filepath.Join(d, "tls.key.d", reloadDue), nil, 0o600)
			}),
		},
	})
}

func TestRenewsInTime(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	first := made(t, h, s)
	next := Driver{}.Next(s, first)
	left := next.Sub(first.NotBefore)
	if life := first.NotAfter.Sub(first.NotBefore); left > life*2/3 || left < life*2/3-life/jitterShare-time.Second {
		t.Fatalf("next look is %s after the start, lifetime is %s", left, life)
	}
	before := shifted{h, time.Until(next) - time.Minute}
	if _, d := look(t, before, s); !d.Empty() {
		t.Fatalf("a minute before the renewal is due: %+v", d)
	}
	due := shifted{h, time.Until(next) + time.Minute}
	_, d := look(t, due, s)
	if d.Action != plan.Update || !strings.Contains(d.Reason, "renewal is due") {
		t.Fatalf("a minute after: %+v", d)
	}
	key, err := os.ReadFile(s.KeyPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := apply(h, s, d); err != nil {
		t.Fatal(err)
	}
	second, d := look(t, h, s)
	if !d.Empty() || second.Serial == first.Serial {
		t.Fatalf("not renewed: %+v", d)
	}
	if again, _ := os.ReadFile(s.KeyPath); string(again) == string(key) {
		t.Error("the old key was used again")
	}
	if n, err := os.ReadDir(s.KeyPath + ".d"); err != nil || len(n) != 2 {
		t.Errorf("left in the directory: %v %v", n, err)
	}
}

func TestReasons(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal", "c.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	made(t, h, s)
	cases := map[string]struct {
		h      host.Host
		change func(*spec.Certificate)
		want   string
	}{
		"expired": {shifted{h, 2 * day}, func(*spec.Certificate) {}, "expired at"},
		"names": {h, func(s *spec.Certificate) { s.DNSNames = []string{"a.test.internal", "c.test.internal"} },
			"names are a.test.internal, b.test.internal"},
		"key type": {h, func(s *spec.Certificate) { s.KeyType = "ec-p384" }, "key type is ec-p256"},
		"foreign CA": {h, func(s *spec.Certificate) { s.Fingerprint = strings.Repeat("0", 64) },
			"does not end in the pinned root"},
		"exposed": {h, func(s *spec.Certificate) { s.Exposed = time.Now().Add(time.Minute) }, "issued before"},
		"old issuer": {h, func(s *spec.Certificate) { s.Exposed = time.Now().Add(-time.Minute) },
			"issued by an intermediate from before"},
		"wanted anew": {h, func(s *spec.Certificate) { s.Renew = time.Now().Add(time.Minute) }, "issued before"},
		"renew early": {h, func(s *spec.Certificate) { s.RenewBefore = spec.Duration(24*time.Hour - time.Second) },
			"renewal is due"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := s
			c.change(&s)
			if _, d := look(t, c.h, s); !strings.Contains(d.Reason, c.want) || !d.Has(fieldCertificate) {
				t.Errorf("got %+v, want reason %q", d, c.want)
			}
		})
	}
	if _, d := look(t, h, s); !d.Empty() {
		t.Errorf("the unchanged one: %+v", d)
	}
}

// While one root takes another's place a certificate may lead to either, in the store are both; then only to the one.
func TestEitherRoot(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	made(t, h, s)
	other := sandbox.NewAuthority(t, t.TempDir())
	both := filepath.Join(t.TempDir(), "both.crt")
	var text []byte
	for _, path := range []string{other.RootFile, ca.RootFile} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, raw...)
	}
	if err := os.WriteFile(both, text, 0o644); err != nil {
		t.Fatal(err)
	}
	s.ACME.RootFile, s.Fingerprint, s.Good = both, other.Fingerprint, []string{other.Fingerprint, ca.Fingerprint}
	if _, d := look(t, h, s); !d.Empty() {
		t.Errorf("it leads to one of two: %+v", d)
	}
	// Alone, and with the CA ahead: what it signs is taken.
	if err := apply(h, s, plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: fieldCertificate}}}); err != nil {
		t.Error(err)
	}
	s.Good = nil
	if _, d := look(t, h, s); !strings.Contains(d.Reason, "does not end in the pinned root") {
		t.Errorf("only one will do: %+v", d)
	}
	s.Fingerprint = ca.Fingerprint
	if _, d := look(t, h, s); !d.Empty() {
		t.Errorf("it leads to that one: %+v", d)
	}
}

// A CA whose intermediate is still the one that others may know is asked in vain: what is in place stays.
func TestNoBetterThanBefore(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	first := made(t, h, s)
	exposed := s
	exposed.Exposed = time.Now().Add(-time.Minute) // the CA's intermediate is an hour old
	_, d := look(t, h, exposed)
	if err := apply(h, exposed, d); err == nil || !strings.Contains(err.Error(), "rotated first") {
		t.Errorf("got %v", err)
	}
	if after, d := look(t, h, s); after.Serial != first.Serial || after.Stale != 0 {
		t.Errorf("the pair was touched: %+v, %+v", after, d)
	}
}

func TestAnotherKey(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	made(t, h, s)
	key, err := keyTypes["ec-p256"]()
	if err != nil {
		t.Fatal(err)
	}
	text, err := keyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.KeyPath, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, d := look(t, h, s); !strings.Contains(d.Reason, "the key is another's") {
		t.Fatalf("got %+v", d)
	}
	made(t, h, s)
}

// The CA was made anew behind the same address with the same root: it does not know the account any more.
func TestAccountIsMadeAnew(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	made(t, h, s)
	ca.Forget()
	if err := apply(h, s, plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: fieldCertificate}}}); err != nil {
		t.Fatal(err)
	}
	if st := made(t, h, s); st.Account != "ok" {
		t.Errorf("account is %s", st.Account)
	}
}

func TestErrors(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	h := &host.Local{}
	create := plan.Delta{Action: plan.Create, Fields: []plan.Field{{Path: fieldCertificate}}}
	cases := map[string]struct {
		change    func(*spec.Certificate)
		permanent bool
		want      string
		hint      string
	}{
		"name that policy refuses": {func(s *spec.Certificate) {
			s.DNSNames = append(s.DNSNames, "foreign.test.internal")
		}, true, "rejectedIdentifier", "step_ca.allowed_names"},
		"CA is down": {func(s *spec.Certificate) {
			s.ACME.Directory = "https://127.0.0.1:9999/acme/acme/directory"
		}, false, "connection refused", ""},
		"CA has no address": {func(s *spec.Certificate) {
			s.ACME.Directory = "https://nowhere.invalid:9000/acme/acme/directory"
		}, false, "nowhere.invalid", ""},
		"CA under another name": {func(s *spec.Certificate) {
			s.ACME.Directory = "https://traefik.test.internal:9000/acme/acme/directory"
		}, true, "traefik.test.internal", "step_ca.dns_names"},
		"root is not the pinned": {func(s *spec.Certificate) { s.Fingerprint = strings.Repeat("ab", 32) }, true,
			"pinned is abab", "trust object"},
		"root is not there yet": {func(s *spec.Certificate) { s.ACME.RootFile = "/nonexistent/root.crt" }, false,
			"/nonexistent/root.crt", ""},
		"challenge is not answered": {func(s *spec.Certificate) {
			s.Webroot = filepath.Join(filepath.Dir(s.AccountDir), "webroot")
		}, false,
			"could not prove a.test.internal by http-01", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := specIn(room(t), ca)
			c.change(&s)
			err := apply(h, s, create)
			if err == nil || !strings.Contains(err.Error(), c.want) || provider.IsPermanent(err) != c.permanent {
				t.Fatalf("permanent %t, want %t: %v", provider.IsPermanent(err), c.permanent, err)
			}
			var p *provider.PermanentError
			if errors.As(err, &p); c.hint != "" && !strings.Contains(p.Hint, c.hint) {
				t.Errorf("hint is %q", p.Hint)
			}
			if _, err := os.Lstat(s.KeyPath); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a key was put in place: %v", err)
			}
			if left, _ := os.ReadDir(s.KeyPath + ".d"); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestClocksDiffer(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	h := shifted{&host.Local{}, -30 * time.Minute} // the test CA's own certificate begins an hour ago
	s := specIn(room(t), ca)
	err := apply(h, s, plan.Delta{Action: plan.Create, Fields: []plan.Field{{Path: fieldCertificate}}})
	if err == nil || !(strings.Contains(err.Error(), "clocks") || strings.Contains(err.Error(), "not yet valid")) {
		t.Errorf("got %v", err)
	}
}

func TestTLSALPN(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s := specIn(room(t), ca)
	s.Challenge, s.KeyType, s.Lifetime = spec.TLSALPN01, "rsa-2048", spec.Duration(2*time.Hour)
	st := made(t, &host.Local{}, s)
	if life := st.NotAfter.Sub(st.NotBefore); life > 2*time.Hour+5*time.Minute || st.KeyType != "rsa-2048" {
		t.Errorf("lifetime %s, key %s", life, st.KeyType)
	}
	if c, err := net.DialTimeout("tcp", "127.0.0.1:443", time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the listener is still there: %v %v", c, err)
	}
}

func TestPortIsTaken(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	ln, err := net.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = apply(&host.Local{}, specIn(room(t), ca),
		plan.Delta{Action: plan.Create, Fields: []plan.Field{{Path: fieldCertificate}}})
	if err == nil || !strings.Contains(err.Error(), "port :80 is taken") {
		t.Errorf("got %v", err)
	}
}

// Plain files from another time are taken over without a new issuance, and are switched in one step when they are
// renewed.
func TestPlainFilesAreAdopted(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	made(t, h, s)
	flatten(t, s)
	first, d := look(t, h, s)
	if !d.Empty() {
		t.Fatalf("plain files are not enough: %+v", d)
	}
	pairs := &pairWatch{Host: h, s: s}
	if err := apply(pairs, s,
		plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: fieldCertificate}}}); err != nil {
		t.Fatal(err)
	}
	if pairs.broken != "" {
		t.Errorf("key and certificate did not belong together after %s", pairs.broken)
	}
	if st := made(t, h, s); st.Serial == first.Serial {
		t.Error("not renewed")
	}
}

func flatten(t *testing.T, s spec.Certificate) {
	t.Helper()
	for path, mode := range map[string]os.FileMode{s.CertPath: 0o644, s.KeyPath: 0o600} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(s.KeyPath + ".d"); err != nil {
		t.Fatal(err)
	}
}

// pairWatch looks after every rename and link whether the pair belongs together.
type pairWatch struct {
	host.Host
	s      spec.Certificate
	broken string
}

func (p *pairWatch) Symlink(target, path string) error {
	err := p.Host.Symlink(target, path)
	st, lookErr := Driver{}.Observe(context.Background(), p.Host, addr, p.s)
	if p.broken == "" && (lookErr != nil || st == nil || !st.KeyMatches) {
		p.broken = path + " -> " + target
	}
	return err
}

func TestRenewalNeverShowsAMixedPair(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	made(t, h, s)
	pairs := &pairWatch{Host: h, s: s}
	if err := apply(pairs, s,
		plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: fieldCertificate}}}); err != nil {
		t.Fatal(err)
	}
	if pairs.broken != "" {
		t.Errorf("after %s", pairs.broken)
	}
}

func TestDelete(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	s, h := specIn(room(t), ca), &host.Local{}
	made(t, h, s)
	for range 2 {
		if err := (Driver{}).Delete(context.Background(), h, addr, s); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(s.KeyPath)); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if _, d := look(t, h, s); d.Action != plan.Create {
		t.Errorf("got %+v", d)
	}
}
