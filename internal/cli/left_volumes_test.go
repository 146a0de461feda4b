package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// A pool that is a directory is looked at when the last of its volumes has left the configuration, too; what lies in it
// without a mark is somebody's.
func TestVolumesOfAPoolThatIsNamedNoMore(t *testing.T) {
	dir := t.TempDir()
	root, pool := filepath.Join(dir, "root"), filepath.Join(dir, "pool")
	path := filepath.Join(pool, "103", "old")
	for _, d := range []string{path, filepath.Join(pool, "103", "photos")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{host: &host.Local{}}
	if err := a.host.Setxattr(path, provider.DirectoryMark, "volume/103/old"); err != nil {
		t.Skipf("extended attributes of the trusted namespace: %v", err)
	}
	raw, err := json.Marshal(spec.Volume{Container: "103", Name: "old", Pool: pool, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	named := []object.Object{{Address: "volume/103/old", Provider: "dir", Spec: raw}}
	s := &session{app: a, house: &house{machine: config.Machine{Root: root}, objects: named}}
	remember := func() []byte {
		t.Helper()
		if err := s.rememberPools(); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(s.poolsPath()) // there may be none
		return text
	}
	first := remember()
	if left := a.left(s.house, named); len(left) > 0 {
		t.Errorf("one that is named is told: %+v", left)
	}
	s.objects = nil
	if again := remember(); string(again) != string(first) {
		t.Errorf("forgotten: %s, then %s", first, again)
	}
	left := a.left(s.house, nil)
	if len(left) != 1 || left[0].address != "volume/103/old" || left[0].place != path || left[0].provider != "dir" {
		t.Errorf("%+v", left)
	}
	if err := os.RemoveAll(pool); err != nil {
		t.Fatal(err)
	}
	if text := remember(); string(text) != "[]" {
		t.Errorf("a pool that is gone is remembered: %s", text)
	}
}
