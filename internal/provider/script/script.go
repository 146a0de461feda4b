// Package script runs a user's own script inside a container, once per content. What says that it ran is a file beside
// it with the content's digest, written after it ended well; a script that was killed or failed runs again.
package script

import (
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Dir is where scripts and their marks are kept.
const Dir = "/var/lib/phoenix/scripts"

const markSuffix = ".sha256"

// Driver runs scripts.
type Driver struct {
	Dir string // instead of the usual one; for tests
}

// New returns the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

var name = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Script, diag.List) {
	s, diags := provider.Decode[spec.Script](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !name.MatchString(s.Name) || strings.HasSuffix(s.Name, markSuffix) {
		diags.Errorf("%q cannot be the name of a script", s.Name)
	}
	if b, err := hex.DecodeString(s.SHA256); err != nil || len(b) != 32 {
		diags.Errorf("script %s: sha256 %q is not 64 hexadecimal digits", s.Name, s.SHA256)
	}
	return s, diags
}

func (d Driver) path(s spec.Script) string {
	if d.Dir != "" {
		return filepath.Join(d.Dir, s.Name)
	}
	return filepath.Join(Dir, s.Name)
}
