// Package subid keeps the ranges of ids that root may give to containers in subuid(5) and subgid(5). With the uidmap
// package, lxc refuses an id map that is not written there.
package subid

import (
	"encoding/json"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps ranges. Others' lines, and ranges of root's that are not asked for, stay.
type Driver struct{ subuid, subgid string }

// New gives the driver without its types.
func New() provider.Erased {
	return provider.New(Driver{subuid: "/etc/subuid", subgid: "/etc/subgid"})
}

// Status tells in which file the range is.
type Status struct {
	UID bool `json:"uid"`
	GID bool `json:"gid"`
}

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.IDMap, diag.List) {
	s, diags := provider.Decode[spec.IDMap](raw)
	if !diags.HasErrors() && (s.Base <= 0 || s.Count <= 0) {
		diags.Errorf("%d:%d is no range of ids", s.Base, s.Count)
	}
	return s, diags
}

// Diff implements provider.Driver.
func (d Driver) Diff(want spec.IDMap, have *Status) plan.Delta {
	var delta plan.Delta
	if !have.UID {
		delta.Compare(d.subuid, "", line(want))
	}
	if !have.GID {
		delta.Compare(d.subgid, "", line(want))
	}
	return delta
}

// Watch implements provider.Watcher.
func (d Driver) Watch(spec.IDMap, *Status) provider.Watch {
	return provider.Watch{Paths: []string{d.subuid, d.subgid}}
}
