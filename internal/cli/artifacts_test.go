package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// A cache that was copied to another machine, or another place, still has its programs, though its index names the
// place of before; a relative path counts from the index.
func TestMovedCacheIsFound(t *testing.T) {
	cache := t.TempDir()
	dir := filepath.Join(cache, "artifacts")
	for name, text := range map[string]string{
		"step-ca-v1/step-ca": "ca", "traefik": "proxy",
		"index.json": `{"step-ca": {"path": "/nowhere/artifacts/step-ca-v1/step-ca", "sha256": "11"},
			"traefik": {"path": "traefik", "sha256": "22"}, "gone": {"path": "/nowhere/x/gone", "sha256": "33"}}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got := builtPrograms(newDigests(&host.Local{}, cache), cache)
	if want := filepath.Join(dir, "step-ca-v1/step-ca"); got[programCA].Path != want || got[programCA].SHA256 != "11" {
		t.Errorf("moved: %+v, want %s", got[programCA], want)
	}
	if want := filepath.Join(dir, "traefik"); got[programProxy].Path != want {
		t.Errorf("relative: %+v, want %s", got[programProxy], want)
	}
	if x, ok := got["gone"]; ok {
		t.Errorf("found where there is none: %+v", x)
	}
}
