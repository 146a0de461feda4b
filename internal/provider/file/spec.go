// Package file keeps one file or directory: its content, mode and owner.
//
// A symbolic link, fifo or device that stands where a file should be is replaced, never followed; a directory is not,
// nor is a file where a directory should be: either may hold somebody's data. What is in a directory stays as it is. No
// content is ever shown, only sizes and digests.
//
// Large files (Spec.SHA256) are not read at each look: SHA-256 runs at 1 GB/s on a processor with SHA instructions,
// which is 0.18 s for Traefik. Their modification time is derived from their digest instead, see provider.Stamp.
package file

import (
	"encoding/hex"
	"encoding/json"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps files.
type Driver struct{}

// New returns the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.File, diag.List) {
	s, diags := provider.Decode[spec.File](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !filepath.IsAbs(s.Path) || filepath.Clean(s.Path) != s.Path || s.Path == "/" {
		diags.Errorf("path %q is not a clean absolute path", s.Path)
	}
	if s.Mode == 0 {
		diags.Errorf("%s: mode is missing", s.Path)
	}
	if b, err := hex.DecodeString(s.SHA256); s.SHA256 != "" && (err != nil || len(b) != 32) {
		diags.Errorf("%s: sha256 %q is not 64 hexadecimal digits", s.Path, s.SHA256)
	}
	if s.Content != "" && s.SHA256 != "" {
		diags.Errorf("%s: has both content and sha256", s.Path)
	}
	if s.Directory && (s.Content != "" || s.SHA256 != "") {
		diags.Errorf("%s: a directory has no content", s.Path)
	}
	return s, diags
}
