package trust_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/trust"
)

var (
	one = strings.Repeat("1a", 32)
	two = strings.Repeat("2b", 32)
)

func TestPinConformance(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("files of root's need root")
	}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(trust.PinDriver{}),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			raw, err := json.Marshal(spec.Pin{Path: filepath.Join(t.TempDir(), "pins", "103"), Fingerprint: one})
			if err != nil {
				t.Fatal(err)
			}
			return &host.Local{}, object.Object{Address: "pin/103", Provider: "pin", Spec: raw}
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"open file": func(t *testing.T, h host.Host, o object.Object) {
				var s spec.Pin
				if err := json.Unmarshal(o.Spec, &s); err != nil {
					t.Fatal(err)
				}
				if err := h.Chmod(s.Path, 0o666); err != nil {
					t.Fatal(err)
				}
			},
		},
	})
}

func TestPinRefusesAnotherRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("files of root's need root")
	}
	for _, content := range []string{two + "\n", "", "damaged"} {
		s := spec.Pin{Path: filepath.Join(t.TempDir(), "103"), Fingerprint: one}
		if err := os.WriteFile(s.Path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		h := host.NewCounted(&host.Local{}, nil)
		st, err := trust.PinDriver{}.Observe(t.Context(), h, "pin/103", s)
		if err != nil {
			t.Fatal(err)
		}
		if d := (trust.PinDriver{}).Diff(s, st); !d.Has("fingerprint") {
			t.Errorf("%q: the difference was not seen: %+v", content, d)
		}
		err = trust.PinDriver{}.Apply(t.Context(), h, "pin/103", s, plan.Delta{})
		if !provider.IsPermanent(err) || h.Mutations() != 0 {
			t.Errorf("%q: want a permanent error and no change, got %v and %d", content, err, h.Mutations())
		}
		s.NewRoot = true
		if err := (trust.PinDriver{}).Apply(t.Context(), h, "pin/103", s, plan.Delta{}); err != nil {
			t.Fatal(err)
		}
		if raw, err := os.ReadFile(s.Path); err != nil || string(raw) != one+"\n" {
			t.Errorf("after consent the pin is %q, %v", raw, err)
		}
	}
}

// A pin that is given up is gone, and gone twice is no error.
func TestPinIsDeleted(t *testing.T) {
	s := spec.Pin{Path: filepath.Join(t.TempDir(), "103"), Fingerprint: strings.Repeat("ab", 32)}
	h := &host.Local{}
	if err := (trust.PinDriver{}).Apply(t.Context(), h, "pin/103", s, plan.Delta{Action: plan.Create}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := (trust.PinDriver{}).Delete(t.Context(), h, "pin/103", s); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := (trust.PinDriver{}).Observe(t.Context(), h, "pin/103", s); have != nil || err != nil {
		t.Errorf("left: %+v, %v", have, err)
	}
}

// Only its mode is mended: what the file says of another root is a person's wish.
func TestPinKeepsTheOtherRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("files of root's need root")
	}
	s := spec.Pin{Path: filepath.Join(t.TempDir(), "103"), Fingerprint: one}
	text := spec.Pins{Root: one, Next: two}.String()
	if err := os.WriteFile(s.Path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Path, 0o666); err != nil {
		t.Fatal(err)
	}
	st, err := trust.PinDriver{}.Observe(t.Context(), &host.Local{}, "pin/103", s)
	if err != nil || st.Fingerprint != one {
		t.Fatalf("%+v, %v", st, err)
	}
	d := trust.PinDriver{}.Diff(s, st)
	if d.Has("fingerprint") || !d.Has("mode") {
		t.Errorf("delta %+v", d)
	}
	if err := (trust.PinDriver{}).Apply(t.Context(), &host.Local{}, "pin/103", s, d); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(s.Path); err != nil || string(raw) != text {
		t.Errorf("the pin is %q, %v", raw, err)
	}
}

// On a Proxmox host the cluster has the pin too: a container that comes to another node is known there, and a root that
// is not its own is refused as on the node that it came from.
func TestPinOfACluster(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("files of root's need root")
	}
	base := t.TempDir()
	p := spec.Proxmox{Dir: filepath.Join(base, "pve"), Locks: filepath.Join(base, "locks")}
	s := spec.Pin{Path: filepath.Join(base, "a", "103"), Fingerprint: one,
		Copy: filepath.Join(p.Dir, "phoenix", "pins", "103"), Proxmox: &p}
	if err := os.MkdirAll(filepath.Join(p.Dir, "local"), 0o755); err != nil {
		t.Fatal(err)
	}
	d, h := trust.PinDriver{}, &host.Local{}
	apply := func(s spec.Pin) error {
		t.Helper()
		have, err := d.Observe(t.Context(), h, "pin/103", s)
		if err != nil {
			t.Fatal(err)
		}
		if delta := d.Diff(s, have); !delta.Empty() {
			return d.Apply(t.Context(), h, "pin/103", s, delta)
		}
		return nil
	}
	settled := func(s spec.Pin) {
		t.Helper()
		if err := apply(s); err != nil {
			t.Fatal(err)
		}
		have, err := d.Observe(t.Context(), h, "pin/103", s)
		if delta := d.Diff(s, have); err != nil || !delta.Empty() {
			t.Fatalf("%v, %+v", err, delta)
		}
	}
	settled(s)
	other := s
	other.Path = filepath.Join(base, "b", "103") // another node
	other.Fingerprint = two
	if err := apply(other); err == nil || !strings.Contains(err.Error(), one) {
		t.Errorf("another root on another node: %v", err)
	}
	other.Fingerprint = one
	settled(other)
	s.Fingerprint, s.NewRoot = two, true // replaced on the first node
	settled(s)
	other.Fingerprint = two
	settled(other) // and known on the other
	if err := d.Delete(t.Context(), h, "pin/103", s); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Copy); !os.IsNotExist(err) {
		t.Errorf("the copy is left: %v", err)
	}
}
