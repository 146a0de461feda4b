// Package user keeps system users: each with a group of its own name, a home that nobody makes, and no login. Without
// an id in the spec the system chooses one, which may differ from one container to the next; owners of files are
// therefore named, not numbered.
package user

import (
	"encoding/json"
	"path/filepath"
	"regexp"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps users.
type Driver struct{}

// New returns the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// name is what Debian's useradd takes without --badname.
var name = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.User, diag.List) {
	s, diags := provider.Decode[spec.User](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !name.MatchString(s.Name) || s.Name == "root" {
		diags.Errorf("%q cannot be the name of a system user", s.Name)
	}
	if s.Home != "" && (!filepath.IsAbs(s.Home) || filepath.Clean(s.Home) != s.Home) {
		diags.Errorf("home %q of %s is not a clean absolute path", s.Home, s.Name)
	}
	return s, diags
}
