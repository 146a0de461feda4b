package zfs

import (
	"strconv"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// canMount: no boot mounts it, nor a replica with the same properties over it.
const canMount = "noauto"

// Diff implements provider.Driver. It never asks for a replacement.
func (Driver) Diff(want spec.Volume, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the volume does not exist"}
	}
	var d plan.Delta
	d.Compare("refquota", provider.SizeText(have.Refquota), provider.SizeText(want.SizeBytes))
	d.Compare("mountpoint", have.Mountpoint, want.Path)
	d.Compare("canmount", have.CanMount, canMount)
	d.Compare("mounted", strconv.FormatBool(have.Mounted), "true")
	if provider.Shrinks(want, have.Refquota) {
		d.Reason = provider.ShrinkReason(want, have.Used)
	}
	if !have.Mounted {
		return d
	}
	directory := provider.DiffDirectory(want, &have.Directory)
	d.Fields = append(d.Fields, directory.Fields...)
	if d.Action == plan.None {
		d.Action = directory.Action
	}
	return d
}
