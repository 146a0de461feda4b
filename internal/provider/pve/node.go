package pve

import (
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Node keeps what the Proxmox host itself lets in for its containers: with the cluster's switch its own firewall is on
// too, and would shut out their questions for names. It implements provider.Driver, provider.Deleter and
// provider.Watcher, and runs no command to look.
type Node struct{}

// NewNode gives the driver without its types.
func NewNode() provider.Erased { return provider.New(Node{}) }

// NodeStatus is what was seen of the host's file, and of the cluster's switch.
type NodeStatus struct {
	FirewallStatus
	On bool `json:"on"`
}

func nodePath(p spec.Proxmox) string { return filepath.Join(p.Dir, "local", "host.fw") }

// Decode implements provider.Driver.
func (Node) Decode(raw json.RawMessage) (spec.NodeFirewall, diag.List) {
	s, diags := provider.Decode[spec.NodeFirewall](raw)
	if !diags.HasErrors() {
		checkPlace(&diags, s.Proxmox)
		checkRules(&diags, s.Rules)
	}
	return s, diags
}

// Observe implements provider.Driver. It is never absent: without a file nothing is let in, which may be all there is
// to be.
func (Node) Observe(_ context.Context, h host.Host, _ object.Address, s spec.NodeFirewall) (*NodeStatus, error) {
	f, _, err := readFilter(h, nodePath(s.Proxmox))
	if err != nil {
		return nil, err
	}
	cluster, _, err := readFilter(h, filterPath(s.Proxmox, "cluster"))
	if err != nil {
		return nil, err
	}
	st := &NodeStatus{FirewallStatus: *f.status(s.Rules), On: cluster.option("enable") == "1"}
	if len(st.Rules) == 0 && len(s.Rules) > 0 {
		return nil, nil
	}
	return st, nil
}

// Diff implements provider.Driver.
func (Node) Diff(want spec.NodeFirewall, have *NodeStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "with its firewall on, the host answers no container"}
	}
	var d plan.Delta
	have.Doubled = nil // what others let in stays
	compareRules(&d, &have.FirewallStatus, want.Rules, false)
	if want.On && !have.On {
		d.Compare("enable", "0", "1")
		d.Reason = "the firewall of the whole cluster is off"
	}
	return d
}

// Apply implements provider.Driver. What the host lets in comes before the switch.
func (Node) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.NodeFirewall, _ plan.Delta) error {
	err := editFilter(ctx, h, s.Proxmox, nodePath(s.Proxmox), func(f *filter) { f.setRules(s.Rules, false) })
	if err != nil || !s.On {
		return err
	}
	return editFilter(ctx, h, s.Proxmox, filterPath(s.Proxmox, "cluster"),
		func(f *filter) { f.setOption("enable", "1") })
}

// Delete implements provider.Deleter. The switch stays: others may rest on it.
func (Node) Delete(ctx context.Context, h host.Host, _ object.Address, s spec.NodeFirewall) error {
	if _, there, err := readFilter(h, nodePath(s.Proxmox)); err != nil || !there {
		return err
	}
	return editFilter(ctx, h, s.Proxmox, nodePath(s.Proxmox), func(f *filter) { f.setRules(nil, false) })
}
