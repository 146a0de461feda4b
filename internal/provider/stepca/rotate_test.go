package stepca_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/stepca"
)

// pinned is the spec as the pin says.
func pinned(s spec.StepCA, p spec.Pins) spec.StepCA {
	s.Pinned, s.Next, s.Old, s.Gone, s.MakeNext = p.Root, p.Next, p.Old, p.Gone, false
	return s
}

func files(t *testing.T, s spec.StepCA, names ...string) string {
	t.Helper()
	var all []string
	for _, n := range names {
		raw, err := os.ReadFile(filepath.Join(s.Dir, n))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(raw))
	}
	return strings.Join(all, "\n")
}

// offers are the fingerprints of the roots in the public copy.
func offers(t *testing.T, s spec.StepCA) (out []string) {
	t.Helper()
	for rest := []byte(files(t, s, "certs/root_ca.crt")); ; {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			return out
		}
		out = append(out, digest(p.Bytes))
	}
}

// What was made before counts as known: other passwords, another intermediate with another key, the same root with the
// same key.
func TestExposed(t *testing.T) {
	needRoot(t)
	s, h := caSpec(t), &host.Local{}
	first := converge(t, h, s)
	before := files(t, s, "secrets/root/password", "secrets/intermediate/password")
	oldKey := files(t, s, "secrets/intermediate/key")
	since := later{h, time.Hour}
	s.Pinned, s.Exposed = first.RootFingerprint, since.Now().Add(-time.Minute)
	if d := (stepca.Driver{}).Diff(s, look(t, since, s)); !d.Has(s.Dir+"/secrets/root") ||
		!d.Has(s.Dir+"/secrets/intermediate") {
		t.Fatalf("what is known to others is not seen: %+v", d)
	}
	// Files are written at the clock of the system: it has to be ahead of the time, as it is when somebody says "now".
	s.Exposed = time.Now().Add(-time.Second)
	backdated(t, s)
	second := converge(t, h, s)
	if second.RootFingerprint != first.RootFingerprint ||
		second.IntermediateFingerprint == first.IntermediateFingerprint {
		t.Errorf("root %s, was %s; intermediate %s, was %s", second.RootFingerprint, first.RootFingerprint,
			second.IntermediateFingerprint, first.IntermediateFingerprint)
	}
	for _, p := range strings.Fields(files(t, s, "secrets/root/password", "secrets/intermediate/password")) {
		if strings.Contains(before, p) {
			t.Error("a password is still in use")
		}
	}
	if files(t, s, "secrets/intermediate/key") == oldKey {
		t.Error("the intermediate's key is the same")
	}
	complete(t, s)
}

// backdated makes everything as old as an hour: the intermediate's certificate and the passwords' files.
func backdated(t *testing.T, s spec.StepCA) {
	t.Helper()
	long := time.Now().Add(-time.Hour)
	for _, dir := range []string{"root", "intermediate"} {
		if err := os.Chtimes(filepath.Join(s.Dir, "secrets", dir, "password"), long, long); err != nil {
			t.Fatal(err)
		}
	}
	old := s
	old.Exposed = time.Time{}
	if err := os.RemoveAll(filepath.Join(s.Dir, "secrets", "intermediate")); err != nil {
		t.Fatal(err)
	}
	converge(t, later{&host.Local{}, -time.Hour}, old)
}

// Killed at any change of a rotation, the root's key can still be opened, and the next run comes to the end.
func TestExposedKilledAnywhere(t *testing.T) {
	needRoot(t)
	prepare := func(t *testing.T) (spec.StepCA, *stepca.Status) {
		s := caSpec(t)
		first := converge(t, &host.Local{}, s)
		backdated(t, s)
		s.Pinned, s.Exposed = first.RootFingerprint, time.Now().Add(-time.Second)
		return s, first
	}
	s, _ := prepare(t)
	count := &host.Faulty{Host: &host.Local{}}
	if err := (stepca.Driver{}).Apply(t.Context(), count, address, s, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= count.Seen(); at++ {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("change %d, applied %t", at, applied), func(t *testing.T) {
				s, first := prepare(t)
				err := stepca.Driver{}.Apply(t.Context(), &host.Faulty{Host: &host.Local{}, At: at, Applied: applied},
					address, s, plan.Delta{})
				if !errors.Is(err, host.ErrInjected) {
					t.Fatalf("want the injected fault, got %v", err)
				}
				if st := look(t, &host.Local{}, s); st.Root != "usable" {
					t.Fatalf("the root cannot be used any more: %s", st.Root)
				}
				if st := converge(t, &host.Local{}, s); st.RootFingerprint != first.RootFingerprint {
					t.Error("another root")
				}
				complete(t, s)
			})
		}
	}
}

// way brings an authority from one root to another and stops before a step; it gives the spec of that step.
func way(t *testing.T, until int) (s spec.StepCA, old, next string) {
	t.Helper()
	h := &host.Local{}
	s = caSpec(t)
	old = converge(t, h, s).RootFingerprint
	s.Pinned, s.MakeNext = old, true
	if until == 0 {
		return s, old, ""
	}
	next = converge(t, h, s).NextRoot
	for i, p := range []spec.Pins{{Root: old, Next: next}, {Root: next, Old: old}, {Root: next, Gone: old},
		{Root: next}} {
		s = pinned(s, p)
		if i+1 == until {
			return s, old, next
		}
		converge(t, h, s)
	}
	return s, old, next
}

// What signs and what is offered, after each step.
func TestSuccession(t *testing.T) {
	needRoot(t)
	for step, want := range []struct{ signs, offers, keeps string }{
		{"old", "old", "intermediate next-intermediate next-root root"},
		{"old", "old next", "intermediate next-intermediate next-root root"},
		{"next", "next old", "intermediate old-root root"},
		{"next", "next", "intermediate root"},
		{"next", "next", "intermediate root"},
	} {
		s, old, next := way(t, step)
		st := converge(t, &host.Local{}, s)
		if next == "" {
			next = st.NextRoot
		}
		names := strings.NewReplacer(old, "old", next, "next")
		if got := names.Replace(st.RootFingerprint); got != want.signs {
			t.Errorf("step %d: signs under %s, want %s", step, got, want.signs)
		}
		if got := names.Replace(strings.Join(offers(t, s), " ")); got != want.offers {
			t.Errorf("step %d: offers %s, want %s", step, got, want.offers)
		}
		kept, err := os.ReadDir(s.Dir + "/secrets")
		var dirs []string
		for _, d := range kept {
			dirs = append(dirs, d.Name())
		}
		if got := strings.Join(dirs, " "); err != nil || got != want.keeps {
			t.Errorf("step %d: keeps %s (%v), want %s", step, got, err, want.keeps)
		}
	}
}

// Killed at any change of any step, the next run comes to the same end, and neither root is ever lost.
func TestSuccessionKilledAnywhere(t *testing.T) {
	needRoot(t)
	for step := range 4 {
		s, _, _ := way(t, step)
		count := &host.Faulty{Host: &host.Local{}}
		if err := (stepca.Driver{}).Apply(t.Context(), count, address, s, plan.Delta{}); err != nil {
			t.Fatal(err)
		}
		if count.Seen() == 0 {
			t.Fatalf("step %d changes nothing", step)
		}
		for at := 1; at <= count.Seen(); at++ {
			for _, applied := range []bool{false, true} {
				t.Run(fmt.Sprintf("step %d, change %d, applied %t", step, at, applied), func(t *testing.T) {
					s, old, next := way(t, step)
					err := stepca.Driver{}.Apply(t.Context(),
						&host.Faulty{Host: &host.Local{}, At: at, Applied: applied}, address, s, plan.Delta{})
					if !errors.Is(err, host.ErrInjected) {
						t.Fatalf("want the injected fault, got %v", err)
					}
					st := converge(t, &host.Local{}, s)
					want := map[bool]string{true: old, false: next}[step < 2]
					if st.RootFingerprint != want {
						t.Errorf("the root is %s, want %s (old %s, next %s)", st.RootFingerprint, want, old, next)
					}
				})
			}
		}
	}
}

// Who still wants what was a step ago undoes nothing.
func TestSuccessionIsNotUndone(t *testing.T) {
	needRoot(t)
	s, old, next := way(t, 2)
	converge(t, &host.Local{}, s)
	stale := pinned(s, spec.Pins{Root: old, Next: next})
	h := host.NewCounted(&host.Local{}, nil)
	_ = stepca.Driver{}.Apply(t.Context(), h, address, stale, plan.Delta{})
	if st := converge(t, &host.Local{}, s); st.RootFingerprint != next || st.OldRoot != old {
		t.Errorf("the root is %s beside %s, want %s beside %s", st.RootFingerprint, st.OldRoot, next, old)
	}
}

// A next root that everybody was told of cannot be made again.
func TestLostNextRoot(t *testing.T) {
	needRoot(t)
	s, _, _ := way(t, 1)
	if err := os.RemoveAll(s.Dir + "/secrets/next-root"); err != nil {
		t.Fatal(err)
	}
	err := stepca.Driver{}.Apply(t.Context(), &host.Local{}, address, s, plan.Delta{})
	if !provider.IsPermanent(err) || !strings.Contains(provider.Hint(err), "rotate --new-root") {
		t.Errorf("got %v, hint %q", err, provider.Hint(err))
	}
}

// The volume is lost half way: consent to a new root is consent to all of it.
func TestAllLostHalfWay(t *testing.T) {
	needRoot(t)
	s, old, next := way(t, 1)
	converge(t, &host.Local{}, s)
	if err := os.RemoveAll(s.Dir); err != nil {
		t.Fatal(err)
	}
	refused(t, host.NewCounted(&host.Local{}, nil), s)
	s.NewRoot = true
	if st := converge(t, &host.Local{}, s); st.RootFingerprint == old || st.RootFingerprint == next {
		t.Errorf("the root is %s", st.RootFingerprint)
	}
}

// The real step-ca hands out both roots, and after the switch is verified under the next one.
func TestRealStepCAInSuccession(t *testing.T) {
	binary(t)
	s, old, next := way(t, 2)
	converge(t, &host.Local{}, s)
	r := start(t, s)
	for _, fingerprint := range []string{old, next} {
		resp, err := r.client.Get("https://" + s.Address + "/root/" + fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("root %s: %s", fingerprint, resp.Status)
		}
	}
	conn, err := tls.Dial("tcp", s.Address, &tls.Config{InsecureSkipVerify: true, ServerName: s.DNSNames[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	block, _ := pem.Decode([]byte(files(t, s, "secrets/root/ca.crt")))
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil || digest(block.Bytes) != next {
		t.Fatal(err, digest(block.Bytes), next)
	}
	if chain := conn.ConnectionState().PeerCertificates; chain[1].CheckSignatureFrom(root) != nil {
		t.Error("step-ca does not sign under the next root")
	}
}

func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
