package e2e

import (
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The first initialisation of the CA, killed in the middle and run again,
// resumes or starts clean.
func TestInterruptedInitialisation(t *testing.T) {
	beside(t)
	moments := map[string]func(volume, pins string) bool{
		"first file on the volume": func(volume, _ string) bool { return hasFile(volume) },
		"root certificate written": func(volume, _ string) bool { return rootIn(volume) != nil },
	}
	for name, moment := range moments {
		t.Run(name, func(t *testing.T) {
			h := New(t, homelab())
			volume, pins := h.caDirectories()
			h.Kill(func() bool { return moment(volume, pins) }, "create", "103")
			h.PowerOff("103")
			h.Phoenix("create", "103").Want(0)
			h.WantHealthy("103")
			h.WantNoChange("103")
		})
	}
}

// Once the fingerprint is pinned, the root is in use: no interruption may
// lead to another one.
func TestPinnedRootSurvivesInterruption(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	volume, pins := h.caDirectories()
	h.Kill(func() bool { return hasFile(pins) }, "create", "101")
	h.PowerOff("103")
	before := rootIn(volume)
	if before == nil {
		t.Fatal("pinned, but no root on the volume")
	}
	h.Phoenix("create", "101").Want(0)
	if after := h.RootCertificate(); !after.Equal(before) {
		t.Errorf("another root: pinned %s, now %s", fingerprint(before), fingerprint(after))
	}
	h.WantHealthy("101", "103")
}

func (h *Hypervisor) caDirectories() (volume, pins string) {
	return filepath.Join(h.Root, "volumes", "103"), filepath.Join(h.Root, "pins")
}

// hasFile says whether a regular file is anywhere below dir. Files that come
// and go under the walk are what the callers wait for.
func hasFile(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// rootIn finds the root certificate below dir, nil if there is none.
func rootIn(dir string) (root *x509.Certificate) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if raw, err := os.ReadFile(path); err == nil {
			if cert, err := parseRoot(raw); err == nil {
				root = cert
				return fs.SkipAll
			}
		}
		return nil
	})
	return root
}
