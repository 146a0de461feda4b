package trust_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/trust"
)

// succession is a trust store while one root takes another's place.
type succession struct {
	old, next     string // fingerprints
	oldPEM, nextP string
	server        string
}

func newSuccession(t *testing.T) succession {
	t.Helper()
	x := succession{}
	x.oldPEM, x.old = newRoot(t, "Phoenix Root CA")
	x.nextP, x.next = newRoot(t, "Phoenix Root CA") // both have one name, as they do
	x.server, _ = ca(t, x.oldPEM+x.nextP)
	return x
}

// steps are the specs on the way.
func (x succession) steps() []spec.Trust {
	s := spec.Trust{Name: "phoenix-root", Server: x.server, Fingerprint: x.old}
	var out []spec.Trust
	for _, p := range []spec.Pins{{Root: x.old}, {Root: x.old, Next: x.next}, {Root: x.next, Old: x.old},
		{Root: x.next, Gone: x.old}, {Root: x.next}} {
		s.Fingerprint, s.Both, s.Gone = p.Root, p.Both(), p.Gone
		out = append(out, s)
	}
	return out
}

// trusts are the roots that programs believe: in the bundle, and by the links of OpenSSL.
func (x succession) trusts(t *testing.T, r *rooted) string {
	t.Helper()
	store := r.store()
	var out []string
	for name, text := range map[string]string{"old": x.oldPEM, "next": x.nextP} {
		if strings.Contains(strings.ReplaceAll(store["ca-certificates.crt"], "\r", ""), text) {
			out = append(out, name)
		}
	}
	if len(out) == 2 {
		return "both"
	}
	return strings.Join(out, " ")
}

// At each step the store has exactly the roots that are trusted then, and from the second to the third nothing is to be
// done.
func TestBothRoots(t *testing.T) {
	r, x := newRooted(t), newSuccession(t)
	for i, want := range []string{"old", "both", "both", "next", "next"} {
		s := x.steps()[i]
		h := host.NewCounted(r, nil)
		if d := diff(t, h, s); d.Empty() != (i == 2 || i == 4) {
			t.Errorf("step %d: %+v", i, d)
		}
		converge(t, h, s)
		if got := x.trusts(t, r); got != want {
			t.Errorf("step %d: %s, want %s", i, got, want)
		}
		files, err := r.ReadDir("/usr/local/share/ca-certificates")
		if err != nil || len(files) != map[string]int{"both": 3}[want]+map[string]int{"old": 1, "next": 1}[want] {
			t.Errorf("step %d: files %v, %v", i, files, err)
		}
	}
}

// Killed at any change of any step, the next run comes to the same end. The root that stays is trusted all the time.
func TestBothRootsKilledAnywhere(t *testing.T) {
	x := newSuccession(t)
	until := func(t *testing.T, step int) *rooted {
		r := newRooted(t)
		for _, s := range x.steps()[:step] {
			converge(t, r, s)
		}
		return r
	}
	for _, step := range []int{1, 3} {
		s := x.steps()[step]
		count := &host.Faulty{Host: until(t, step)}
		if err := (trust.Driver{}).Apply(t.Context(), count, address, s, plan.Delta{}); err != nil {
			t.Fatal(err)
		}
		for at := 1; at <= count.Seen(); at++ {
			for _, applied := range []bool{false, true} {
				t.Run(fmt.Sprintf("step %d, change %d, applied %t", step, at, applied), func(t *testing.T) {
					r := until(t, step)
					err := trust.Driver{}.Apply(t.Context(), &host.Faulty{Host: r, At: at, Applied: applied}, address,
						s, plan.Delta{})
					if !errors.Is(err, host.ErrInjected) {
						t.Fatalf("want the injected fault, got %v", err)
					}
					converge(t, r, s)
					if got := x.trusts(t, r); got != []string{1: "both", 3: "next"}[step] {
						t.Errorf("trusts %s", got)
					}
				})
			}
		}
	}
}

// A root that is gone is seen in the bundle, though no file of ours names it any more.
func TestGoneRootInTheBundle(t *testing.T) {
	r, x := newRooted(t), newSuccession(t)
	s := x.steps()[3]
	converge(t, r, s)
	all, err := r.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteFile(bundle, append(all, x.oldPEM...), 0o644, host.Root); err != nil {
		t.Fatal(err)
	}
	if d := diff(t, r, s); !d.Has("foreign") {
		t.Fatalf("not seen: %+v", d)
	}
	converge(t, r, s)
	if got := x.trusts(t, r); got != "next" {
		t.Errorf("trusts %s", got)
	}
}
