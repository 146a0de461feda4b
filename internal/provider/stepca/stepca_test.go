package stepca_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/stepca"
)

const address = object.Address("stepca/103")

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files that belong to different users need root")
	}
}

// caSpec is an authority in a fresh directory that runs as nobody.
func caSpec(t *testing.T) spec.StepCA {
	t.Helper()
	dir := t.TempDir()
	return spec.StepCA{Dir: filepath.Join(dir, "ssl"), FirstRoot: true, User: "65534", RootName: "Test Root",
		IntermediateName: "Test Intermediate",
		DNSNames:         []string{"ca.homelab.internal", "127.0.0.1"}, Address: freeAddress(t), Provisioner: "acme",
		AllowedNames: []string{"localhost", "gateway.homelab.internal", "127.0.0.1"},
		Domains:      []string{"homelab.internal", "localhost"}, Addresses: []string{"10.0.0.10"},
		LeafLifetime: hours(24), MaxLeafLifetime: hours(48), RootLifetime: hours(87600), IntermediateLife: hours(8760),
		Database: "bbolt", Credentials: filepath.Join(dir, "cred"), Data: filepath.Join(dir, "data")}
}

func hours(n int) spec.Duration { return spec.Duration(time.Duration(n) * time.Hour) }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func asObject(t *testing.T, s spec.StepCA) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: address, Provider: "stepca", Spec: raw}
}

// converge observes and applies until nothing is left, and gives the status.
func converge(t *testing.T, h host.Host, s spec.StepCA) *stepca.Status {
	t.Helper()
	if err := (stepca.Driver{}).Apply(t.Context(), h, address, s, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	st := look(t, h, s)
	if d := (stepca.Driver{}).Diff(s, st); !d.Empty() {
		t.Fatalf("still to do: %+v", d)
	}
	return st
}

func look(t *testing.T, h host.Host, s spec.StepCA) *stepca.Status {
	t.Helper()
	st, err := stepca.Driver{}.Observe(t.Context(), h, address, s)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// later is a host whose clock is ahead.
type later struct {
	host.Host
	by time.Duration
}

func (l later) Now() time.Time { return l.Host.Now().Add(l.by) }

func TestConformance(t *testing.T) {
	needRoot(t)
	paths := func(f func(t *testing.T, s spec.StepCA)) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, o object.Object) {
			var s spec.StepCA
			if err := json.Unmarshal(o.Spec, &s); err != nil {
				t.Fatal(err)
			}
			f(t, s)
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(stepca.Driver{}),
		Fresh:  func(t *testing.T) (host.Host, object.Object) { return &host.Local{}, asObject(t, caSpec(t)) },
		Volatile: []string{"root_fingerprint", "root_not_after", "intermediate_fingerprint", "intermediate_not_before",
			"intermediate_not_after", "inputs", "probe"},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"broken ca.json": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.WriteFile(s.Dir+"/config/ca.json", []byte(`{"root":`), 0o600))
			}),
			"open key": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.Chmod(s.Dir+"/secrets/root/key", 0o644))
			}),
			"open directory": paths(func(t *testing.T, s spec.StepCA) { must(t, os.Chmod(s.Dir+"/secrets", 0o755)) }),
			"foreign owner": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.Chown(s.Dir+"/secrets/intermediate/password", 65534, 65534))
			}),
			"database of root's": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.WriteFile(s.Dir+"/db/step-ca.db", nil, 0o600))
			}),
			"leftover": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.Mkdir(s.Dir+"/secrets/.root", 0o700))
			}),
			"lost intermediate": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.RemoveAll(s.Dir+"/secrets/intermediate"))
			}),
			"lost intermediate key": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.Remove(s.Dir+"/secrets/intermediate/key"))
			}),
			"foreign public copy": paths(func(t *testing.T, s spec.StepCA) {
				must(t, os.WriteFile(s.Dir+"/certs/root_ca.crt", []byte("other"), 0o644))
			}),
		},
	})
}

// A root that was committed before the process was killed is the root for ever.
func TestKilledInitialisationKeepsItsRoot(t *testing.T) {
	needRoot(t)
	count := &host.Faulty{Host: &host.Local{}}
	if err := (stepca.Driver{}).Apply(t.Context(), count, address, caSpec(t), plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	resumed := 0
	for at := 1; at <= count.Seen(); at++ {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("change %d, applied %t", at, applied), func(t *testing.T) {
				s, local := caSpec(t), &host.Local{}
				err := stepca.Driver{}.Apply(t.Context(), &host.Faulty{Host: local, At: at, Applied: applied}, address,
					s, plan.Delta{})
				if !errors.Is(err, host.ErrInjected) {
					t.Fatalf("want the injected fault, got %v", err)
				}
				before := look(t, local, s)
				after := converge(t, local, s)
				if before != nil && before.RootFingerprint != "" {
					resumed++
					if before.RootFingerprint != after.RootFingerprint {
						t.Errorf("root %s was replaced by %s", before.RootFingerprint, after.RootFingerprint)
					}
				}
				complete(t, s)
			})
		}
	}
	if resumed == 0 || resumed == 2*count.Seen() {
		t.Errorf("%d of %d runs found a root: the kill points do not surround the commit", resumed, 2*count.Seen())
	}
}

// complete demands exactly the files of a whole authority.
func complete(t *testing.T, s spec.StepCA) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, strings.TrimPrefix(path, s.Dir+"/"))
		}
		return err
	})
	want := "certs/intermediate_ca.crt certs/root_ca.crt config/ca.json secrets/intermediate/ca.crt " +
		"secrets/intermediate/key " +
		"secrets/intermediate/password secrets/root/ca.crt secrets/root/key secrets/root/password"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("files %v, error %v; want %s", got, err, want)
	}
}

// No root is ever replaced silently: each loss is permanent, touches nothing, and is healed by putting the file back.
func TestLostRootIsPermanent(t *testing.T) {
	needRoot(t)
	for _, path := range []string{"secrets/root/key", "secrets/root/password", "secrets/root/ca.crt", "secrets/root"} {
		t.Run(path, func(t *testing.T) {
			s := caSpec(t)
			counted := host.NewCounted(&host.Local{}, nil)
			first := converge(t, counted, s)
			away := filepath.Join(t.TempDir(), "away")
			if err := os.Rename(filepath.Join(s.Dir, path), away); err != nil {
				t.Fatal(err)
			}
			refused(t, counted, s)
			if err := os.Rename(away, filepath.Join(s.Dir, path)); err != nil {
				t.Fatal(err)
			}
			if got := converge(t, counted, s); got.RootFingerprint != first.RootFingerprint {
				t.Errorf("another root after the restore")
			}
		})
	}
}

// refused demands a permanent error, a delta that says so, and no change.
func refused(t *testing.T, h *host.Counted, s spec.StepCA) {
	t.Helper()
	st := look(t, h, s)
	d := stepca.Driver{}.Diff(s, st)
	if st == nil || !d.Has("root") || st.Inputs != "" {
		t.Fatalf("the loss was not seen: %+v", d)
	}
	before := h.Mutations()
	err := stepca.Driver{}.Apply(t.Context(), h, address, s, d)
	if !provider.IsPermanent(err) {
		t.Fatalf("want a permanent error, got %v", err)
	}
	if h.Mutations() != before {
		t.Errorf("%d changes although it was refused", h.Mutations()-before)
	}
}

func TestPinnedRootIsNeverMadeAgain(t *testing.T) {
	needRoot(t)
	s := caSpec(t)
	s.Pinned = strings.Repeat("ab", 32)
	h := host.NewCounted(&host.Local{}, nil)
	refused(t, h, s)
	s.NewRoot = true
	converge(t, h, s)
}

func TestConsentKeepsWhatIsLeft(t *testing.T) {
	needRoot(t)
	s, h := caSpec(t), &host.Local{}
	first := converge(t, h, s)
	if err := os.WriteFile(s.Dir+"/secrets/root/password", []byte("wrong"), 0o400); err != nil {
		t.Fatal(err)
	}
	s.NewRoot = true
	second := converge(t, h, s)
	if second.RootFingerprint == first.RootFingerprint {
		t.Error("consent did not give a new root")
	}
	kept, err := filepath.Glob(s.Dir + "/secrets/lost-root-*/ca.crt")
	if err != nil || len(kept) != 1 {
		t.Errorf("the old root was not kept: %v %v", kept, err)
	}
	if third := converge(t, h, s); third.RootFingerprint != second.RootFingerprint {
		t.Error("standing consent replaced a usable root")
	}
}

func TestNewZoneAndAgeIssueTheIntermediateAgain(t *testing.T) {
	needRoot(t)
	s, h := caSpec(t), &host.Local{}
	first := converge(t, h, s)
	key, err := os.ReadFile(s.Dir + "/secrets/intermediate/key")
	if err != nil {
		t.Fatal(err)
	}
	s.Domains = append(s.Domains, "second.internal")
	wider := converge(t, h, s)
	if wider.RootFingerprint != first.RootFingerprint ||
		wider.IntermediateFingerprint == first.IntermediateFingerprint ||
		!strings.Contains(wider.IntermediatePermits, "second.internal") || wider.Inputs == first.Inputs {
		t.Errorf("zone added: %+v", wider)
	}
	old := later{h, 8000 * time.Hour}
	if next := (stepca.Driver{}).Next(s, wider); next.After(old.Now()) {
		t.Errorf("asked to be looked at on %s only", next)
	}
	renewed := converge(t, old, s)
	if renewed.RootFingerprint != first.RootFingerprint ||
		renewed.IntermediateFingerprint == wider.IntermediateFingerprint {
		t.Errorf("aged: %+v", renewed)
	}
	now, err := os.ReadFile(s.Dir + "/secrets/intermediate/key")
	if err != nil || string(now) != string(key) {
		t.Errorf("the intermediate's key changed: %v", err)
	}
}

func TestExpiredRootIsPermanent(t *testing.T) {
	needRoot(t)
	s := caSpec(t)
	converge(t, &host.Local{}, s)
	refused(t, host.NewCounted(later{&host.Local{}, 90000 * time.Hour}, nil), s)
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*spec.StepCA)
		want   string
	}{
		"no allowed names": {func(s *spec.StepCA) { s.AllowedNames = nil }, "sign any name"},
		"wildcard": {func(s *spec.StepCA) { s.AllowedNames = []string{"*.homelab.internal"} },
			"lower-case DNS name"},
		"underscore": {func(s *spec.StepCA) { s.AllowedNames = []string{"a_b.homelab.internal"} },
			"lower-case DNS name"},
		"outside the zones": {func(s *spec.StepCA) { s.AllowedNames = []string{"www.example.com"} },
			"outside of the domains"},
		"foreign address": {func(s *spec.StepCA) { s.AllowedNames = []string{"192.0.2.1"} },
			"outside of the domains"},
		"leaf too long": {func(s *spec.StepCA) { s.LeafLifetime = hours(72) }, "shorter than leaf_lifetime"},
		"database":      {func(s *spec.StepCA) { s.Database = "mysql" }, "neither bbolt nor badgerv2"},
		"relative":      {func(s *spec.StepCA) { s.Dir = "ssl" }, "absolute"},
		"no port":       {func(s *spec.StepCA) { s.Address = "10.0.0.10" }, "no port"},
		"provisioner":   {func(s *spec.StepCA) { s.Provisioner = "a/b" }, "letters, digits"},
		"nobody dials":  {func(s *spec.StepCA) { s.DNSNames = nil }, "dns_names is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			s := caSpec(t)
			c.change(&s)
			raw, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			_, diags := stepca.Driver{}.Decode(raw)
			if err := diags.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

// Without a person's word no root is made: not on an empty volume, not on one that was emptied, pinned or not. Nothing
// is written.
func TestNobodyMintsUnasked(t *testing.T) {
	needRoot(t)
	for name, change := range map[string]func(*spec.StepCA){
		"never had one": func(*spec.StepCA) {}, "pinned": func(s *spec.StepCA) { s.Pinned = strings.Repeat("a", 64) },
		"asked for a first one where one was lost": func(s *spec.StepCA) {
			s.Pinned, s.FirstRoot = strings.Repeat("a", 64), true
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, h := caSpec(t), &host.Local{}
			s.FirstRoot = false
			change(&s)
			err := (stepca.Driver{}).Apply(context.Background(), h, address, s, plan.Delta{})
			if err == nil || !provider.IsPermanent(err) ||
				!strings.Contains(provider.Hint(err), "phoenix ca restore FILE") ||
				!strings.Contains(provider.Hint(err), "phoenix create 103") {
				t.Errorf("%v, hint %q", err, provider.Hint(err))
			}
			if left, err := os.ReadDir(s.Dir); err == nil {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestObserveIsAbsentBeforeAll(t *testing.T) {
	if st := look(t, &host.Local{}, caSpec(t)); st != nil {
		t.Errorf("status %+v of a volume with nothing in it", st)
	}
}

func BenchmarkObserve(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root")
	}
	s := spec.StepCA{Dir: b.TempDir(), FirstRoot: true, User: "65534", RootName: "r", IntermediateName: "i",
		DNSNames: []string{"localhost"},
		Address:  "127.0.0.1:1", Provisioner: "acme", AllowedNames: []string{"localhost"},
		Domains:      []string{"localhost"},
		LeafLifetime: hours(1), MaxLeafLifetime: hours(1), RootLifetime: hours(4), IntermediateLife: hours(2),
		Database:    "bbolt",
		Credentials: "/c", Data: "/d"}
	h := &host.Local{}
	if err := (stepca.Driver{}).Apply(context.Background(), h, address, s, plan.Delta{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := (stepca.Driver{}).Observe(context.Background(), h, address, s); err != nil {
			b.Fatal(err)
		}
	}
}
