// Package pve keeps system containers on a Proxmox VE host: their definition, their volumes, their running, the
// templates that they are cloned from and their snapshots.
//
// A call of pct takes most of a second, so what there is is read from the files below /etc/pve and from lxc's own
// tools, and all changes of a container go into one call. What pct says is judged by its words alone: its exit codes
// mean nothing. Which container and which volume are phoenix's stands in the container's notes.
package pve

import (
	"regexp"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// NewContainer gives the driver of definitions without its types.
func NewContainer() provider.Erased { return provider.New(Container{}) }

// NewVolume gives the driver of volumes without its types.
func NewVolume() provider.Erased { return provider.New(Volume{}) }

// NewRunning gives the driver of running containers without its types.
func NewRunning() provider.Erased { return provider.New(Running{}) }

// NewSnapshot gives the driver of snapshots without its types.
func NewSnapshot() provider.Erased { return provider.New(Snapshot{}) }

// NewTemplate gives the driver of templates without its types.
func NewTemplate() provider.Erased { return provider.New(Template{}) }

// guestID is an id as Proxmox takes it.
var guestID = regexp.MustCompile(`^[1-9][0-9]{2,8}$`)

func checkID(diags *diag.List, id string) {
	if !guestID.MatchString(id) {
		diags.Errorf("%q is no id for a container of Proxmox: it wants a number from 100 to 999999999", id)
	}
}

func checkPlace(diags *diag.List, p spec.Proxmox) {
	for _, path := range []string{p.Dir, p.State, p.Locks} {
		checkPath(diags, path)
	}
}
