package network

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// PortDriver keeps running containers' interfaces plugged into their bridges: a bridge that is made anew has no ports.
type PortDriver struct{}

// NewPort gives the driver without its types.
func NewPort() provider.Erased { return provider.New(PortDriver{}) }

// PortStatus is what was seen of a port.
type PortStatus struct {
	Bridge string `json:"bridge"` // empty: it is in none
	Up     bool   `json:"up"`
}

// Decode implements provider.Driver.
func (PortDriver) Decode(raw json.RawMessage) (spec.Port, diag.List) {
	s, diags := provider.Decode[spec.Port](raw)
	for _, name := range []string{s.Name, s.Bridge} {
		if !diags.HasErrors() && !ifname.MatchString(name) {
			diags.Errorf("%q is no name for an interface: at most 15 letters, digits, dots, dashes or underscores",
				name)
		}
	}
	return s, diags
}

// Observe implements provider.Driver. Only a container's start makes a port; without one its interface was taken away
// inside.
func (PortDriver) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Port) (*PortStatus, error) {
	l, err := show(ctx, h, s.Name)
	if l == nil || err != nil {
		return nil, err
	}
	return &PortStatus{Bridge: l.Master, Up: slices.Contains(l.Flags, "UP")}, nil
}

// Diff implements provider.Driver.
func (PortDriver) Diff(want spec.Port, have *PortStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the container's interface has no end on the hypervisor"}
	}
	var d plan.Delta
	d.Compare("bridge", have.Bridge, want.Bridge)
	d.Compare("up", fmt.Sprint(have.Up), "true")
	return d
}

// Apply implements provider.Driver.
func (PortDriver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Port, d plan.Delta) error {
	if d.Action == plan.Create {
		return provider.PermanentHint(fmt.Errorf("interface %s is not there", s.Name), "phoenix restart "+a.Scope())
	}
	return batch(ctx, h, []string{"link set dev " + s.Name + " master " + s.Bridge, "link set dev " + s.Name + " up"})
}

// Watch implements provider.Watcher.
func (PortDriver) Watch(spec.Port, *PortStatus) provider.Watch { return provider.Watch{Links: true} }
