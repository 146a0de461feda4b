package provider

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// While pmxcfs is away /etc/pve is an empty directory, over which it would not mount if anything was written there.
func TestNothingIsWrittenWithoutPmxcfs(t *testing.T) {
	dir := t.TempDir()
	p := spec.Proxmox{Dir: filepath.Join(dir, "pve"), Locks: filepath.Join(dir, "locks")}
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path, lock := filepath.Join(p.Dir, "phoenix", "pins", "103"), filepath.Join(p.Locks, "x.lock")
	replace := func() error {
		_, err := ReplaceProxmox(t.Context(), &host.Local{}, p, lock, path, nil, "text")
		return err
	}
	if err := replace(); err == nil || Hint(err) == "" {
		t.Errorf("written, or nothing said about it: %v", err)
	}
	if left, err := os.ReadDir(p.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if err := os.Mkdir(filepath.Join(p.Dir, "local"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := replace(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}
