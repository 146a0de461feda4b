package subid

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

var idMap = spec.IDMap{Base: 100000, Count: 65536}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root's need root")
	}
	dir := t.TempDir()
	d := Driver{subuid: filepath.Join(dir, "subuid"), subgid: filepath.Join(dir, "subgid")}
	raw, err := json.Marshal(idMap)
	must(t, err)
	fresh := func(t *testing.T) (host.Host, object.Object) {
		must(t, os.WriteFile(d.subuid, []byte("ann:100000:65536"), 0o644)) // of another, without a line's end
		must(t, os.RemoveAll(d.subgid))
		return &host.Local{}, object.Object{Address: "subid/root", Provider: "subid", Spec: raw}
	}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(d), Fresh: fresh,
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a lost file": func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.Remove(d.subgid)) },
			"a lost range": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.WriteFile(d.subuid, []byte("root:1:2\n"), 0o644))
			},
		},
	})
	t.Run("others stay", func(t *testing.T) {
		h, o := fresh(t)
		x := provider.New(d)
		obs, err := x.Observe(t.Context(), h, o)
		must(t, err)
		must(t, x.Apply(t.Context(), h, o, obs.Delta))
		got, err := os.ReadFile(d.subuid)
		if want := "ann:100000:65536\nroot:100000:65536\n"; err != nil || string(got) != want {
			t.Errorf("%q (%v), want %q", got, err, want)
		}
	})
}

func TestAllows(t *testing.T) {
	for file, want := range map[string]bool{
		"":                                       false,
		"root:100000:65536\n":                    true,
		"0:100000:65536":                         true, // by number
		"root:100000:65535\n":                    false,
		"root:100001:65536\n":                    false,
		"root:1000:1000000\n":                    true,
		"ann:100000:65536\n":                     false,
		"root:100000\nroot:x:y\n":                false,
		"# root\nroot:5:1\nroot:100000:65536 \n": true,
	} {
		if got := allows(file, idMap); got != want {
			t.Errorf("%q: %v, want %v", file, got, want)
		}
	}
}
