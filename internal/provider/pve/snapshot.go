package pve

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Snapshot keeps a state of a container. It implements provider.Driver. A snapshot goes away with its container.
type Snapshot struct{}

// SnapshotStatus is what was seen of a snapshot.
type SnapshotStatus struct {
	Name  string `json:"name"`
	State string `json:"state,omitempty"` // empty: it is whole
}

// snapshotName is what Proxmox takes: at least two characters, and neither of its own names.
var snapshotName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{1,39}$`)

func checkSnapshot(diags *diag.List, id, name string) {
	if !snapshotName.MatchString(name) || name == "current" || name == "vzdump" {
		diags.Errorf("container %s: %q is no name for a snapshot: 2 to 40 letters, digits, - and _, a letter first",
			id, name)
	}
}

// Decode implements provider.Driver.
func (Snapshot) Decode(raw json.RawMessage) (spec.Snapshot, diag.List) {
	s, diags := provider.Decode[spec.Snapshot](raw)
	if !diags.HasErrors() {
		checkID(&diags, s.ID)
		checkPlace(&diags, s.Proxmox)
		checkSnapshot(&diags, s.ID, s.Name)
	}
	return s, diags
}

// Observe implements provider.Driver; nil: there is none. It runs no command.
func (Snapshot) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Snapshot) (*SnapshotStatus, error) {
	c, err := read(h, s.Proxmox, s.ID)
	if c == nil || err != nil {
		return nil, err
	}
	return seenSnapshot(c, s.Name), nil
}

func seenSnapshot(c *conf, name string) *SnapshotStatus {
	section := c.section(name)
	if section == nil {
		return nil
	}
	return &SnapshotStatus{Name: name, State: section.get("snapstate")}
}

// Diff implements provider.Driver.
func (Snapshot) Diff(_ spec.Snapshot, have *SnapshotStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "there is no such snapshot"}
	}
	var d plan.Delta
	d.Compare("state", have.State, "")
	return d
}

// Apply implements provider.Driver. One that was left half made is removed first.
func (k Snapshot) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.Snapshot, _ plan.Delta) error {
	if err := provider.ProxmoxWritable(h, s.Proxmox); err != nil {
		return err
	}
	c, err := read(h, s.Proxmox, s.ID)
	if err != nil {
		return err
	}
	if c == nil || c.half() {
		return fmt.Errorf("container %s does not exist", s.ID)
	}
	return takeSnapshot(ctx, h, s, c)
}

var usedAlready = regexp.MustCompile(`snapshot name '[^']+' already used`)

func takeSnapshot(ctx context.Context, h host.Host, s spec.Snapshot, c *conf) error {
	c, err := release(ctx, h, s.Proxmox, s.ID, c)
	if err != nil {
		return err
	}
	if have := seenSnapshot(c, s.Name); have != nil && have.State == "" {
		return nil
	} else if have != nil {
		if _, err := pct(ctx, h, s.ID, callLimit, "delsnapshot", s.ID, s.Name, "--force", "1"); err != nil {
			return err
		}
	}
	argv := []string{"snapshot", s.ID, s.Name}
	if s.About != "" {
		argv = append(argv, "--description", ownSnapshot+s.About)
	}
	res, err := pct(ctx, h, s.ID, callLimit, argv...)
	if err != nil && says(res, usedAlready) {
		return nil
	}
	return err
}
