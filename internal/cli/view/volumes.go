package view

import "fmt"

// What becomes of a volume.
const (
	VolumeInUse   = "in use"
	VolumeMissing = "not made yet"
	VolumeKept    = "kept, not in the configuration any more"
)

// KnownVolume is a volume that phoenix made, or will make.
type KnownVolume struct {
	Name       string `json:"name"` // 103/ssl
	State      string `json:"state"`
	Backend    string `json:"backend"` // dir, btrfs, zfs or pve
	Pool       string `json:"pool,omitempty"`
	Place      string `json:"place"`
	MountPoint string `json:"mount_point,omitempty"`
}

// Volumes shows a table.
func (p *people) Volumes(list []KnownVolume) {
	if len(list) == 0 {
		p.say("there are no volumes\n")
		return
	}
	w := table(p.Out)
	fmt.Fprintln(w, "VOLUME\tSTATE\tBACKEND\tPLACE\tMOUNTED AT")
	for _, v := range list {
		writeRow(w, v.Name, v.State, v.Backend, v.Place, v.MountPoint)
	}
	w.Flush()
}

// Volumes writes {"volumes":[…]}.
func (v *programs) Volumes(list []KnownVolume) {
	if list == nil {
		list = []KnownVolume{}
	}
	v.write(map[string]any{"volumes": list})
}
