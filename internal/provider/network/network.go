// Package network keeps a bridge on the hypervisor with the hypervisor's own address on it. A bridge that exists
// already is adopted: phoenix adds its address, and never removes an address or a port that it did not add.
package network

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps bridges. It implements provider.Driver and provider.Deleter.
type Driver struct{}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Status is what was seen of a bridge.
type Status struct {
	Bridge    string   `json:"bridge"`
	Up        bool     `json:"up"`
	Ours      bool     `json:"ours"` // made by phoenix: its alias says so
	MAC       string   `json:"mac"`
	Addresses []string `json:"addresses"` // CIDR
	Trusting  []string `json:"trusting"`  // switches by which it takes routes and addresses from others
}

// ifname is what the kernel takes for an interface (IFNAMSIZ) and what needs no quoting in ip's batch input.
var ifname = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Network, diag.List) {
	s, diags := provider.Decode[spec.Network](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !ifname.MatchString(s.Bridge) {
		diags.Errorf("%q is no name for a bridge: at most 15 letters, digits, dots, dashes or underscores", s.Bridge)
	}
	if _, err := netip.ParsePrefix(s.Address); err != nil {
		diags.Errorf("address %q of bridge %s is not an address with a prefix length, such as 10.0.0.1/24", s.Address,
			s.Bridge)
	}
	return s, diags
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Network, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the bridge does not exist"}
	}
	var d plan.Delta
	if !have.Up {
		d.Compare("up", "false", "true")
	}
	if have.Ours {
		d.Compare("mac", have.MAC, mac(want))
		d.Compare("router advertisements", strings.Join(have.Trusting, " "), "")
	}
	if !slices.Contains(have.Addresses, want.Address) {
		d.Compare("address", "", want.Address)
	}
	return d
}
