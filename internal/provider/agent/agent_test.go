package agent

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

func TestConformance(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the list belongs to root")
	}
	// One path for all of the suite's systems, so that one Driver serves them; Fresh empties it.
	path := filepath.Join(t.TempDir(), "etc", "phoenix", "agent.json")
	damage := func(do func() error) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, _ object.Object) {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
	}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(Driver{Path: path}),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			if err := os.RemoveAll(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(spec.Agent{Binary: "/x", SHA256: "00", Objects: []object.Object{
				{Address: "file/1/etc/hosts", Provider: "file", Spec: json.RawMessage(`{"path": "/etc/hosts"}`)},
			}})
			if err != nil {
				t.Fatal(err)
			}
			return &host.Local{}, object.Object{Address: "agent/1", Provider: "agent", Spec: raw}
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"garbage": damage(func() error { return os.WriteFile(path, []byte("{"), 0o600) }),
			"mode":    damage(func() error { return os.Chmod(path, 0o644) }),
			"owner":   damage(func() error { return os.Chown(path, 1, 1) }),
			"removed": damage(func() error { return os.Remove(path) }),
		},
	})
}
