// Package pkg keeps Debian packages installed. It looks into dpkg's own database, /var/lib/dpkg, and runs no program to
// find that there is nothing to do. It never removes, upgrades or holds anything.
package pkg

import (
	"encoding/json"
	"regexp"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps packages.
type Driver struct{}

// New returns the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// name is a package's name as Debian policy, section 5.6.1, has it; a virtual package is not one that can be installed.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Package, diag.List) {
	s, diags := provider.Decode[spec.Package](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if len(s.Names) == 0 {
		diags.Errorf("no package is named")
	}
	for _, n := range s.Names {
		if !name.MatchString(n) {
			diags.Errorf("%q cannot be the name of a Debian package", n)
		}
	}
	return s, diags
}
