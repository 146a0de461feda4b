package config

import "slices"

// kernelTypes are file systems that show the kernel's own, not files.
var kernelTypes = []string{"binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs",
	"efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "securityfs", "selinuxfs", "sysfs",
	"tracefs"}

// below looks at what is mounted below a directory, which a container sees with it: it is judged as the directory
// itself is. It reports whether nothing was refused.
func (d *derivation) below(c *Container, m *MountPoint, places []reserved, before []mounted) bool {
	for _, b := range d.machine.Below[m.HostPath] {
		overlaps := func(other string) bool { return b.overlaps(d.machine.Locations.of(other)) }
		if slices.Contains(kernelTypes, b.Type) {
			d.refuse(m.At, "host_path", "name a directory without it", "a file system of the kernel (%s) is mounted at "+
				"%s, below host_path %s of container %s", b.Type, b.Point, m.HostPath, c.ID)
			return false
		}
		if m.ReadOnly {
			d.refuse(m.At, "host_path", `name `+b.Point+` in mount_points by itself, or write "read_only": false`,
				"%s is mounted below host_path %s of container %s, where it could be written to: only %s itself would "+
					"be read-only", b.Point, m.HostPath, c.ID, m.HostPath)
			return false
		}
		if i := slices.IndexFunc(places, func(r reserved) bool { return overlaps(r.path) }); i >= 0 {
			d.refuse(m.At, "host_path", "umount it, or name a directory without it", "%s, which is mounted below "+
				"host_path %s of container %s, is, contains or is inside of %s, which is %s", b.Point, m.HostPath,
				c.ID, places[i].path, places[i].what)
			return false
		}
		i := slices.IndexFunc(before, func(o mounted) bool {
			return o.container != c.ID && !(o.share && m.Share) && (overlaps(o.path) ||
				slices.ContainsFunc(d.machine.Below[o.path],
					func(x Below) bool { return b.overlaps([]string{x.Location}) }))
		})
		if i >= 0 {
			d.refuse(m.At, "host_path", "give each container a directory of its own", "%s, which is mounted below "+
				"host_path %s of container %s, is seen in %s of container %s too, see %s", b.Point, m.HostPath, c.ID,
				before[i].path, before[i].container, before[i].at.source("host_path"))
			return false
		}
	}
	return true
}

// seenBelow is whether what is mounted below one directory shows a part of another, or what that is a part of.
func (d *derivation) seenBelow(dir, other string) bool {
	return slices.ContainsFunc(d.machine.Below[dir],
		func(b Below) bool { return b.overlaps(d.machine.Locations.of(other)) })
}

// overlaps is whether it shows a part of one of the places, or what one is a part of.
func (b Below) overlaps(places []string) bool {
	return slices.ContainsFunc(places,
		func(at string) bool { return within(at, b.Location) || within(b.Location, at) })
}

// shareable refuses to share a directory with a private key in it.
func (d *derivation) shareable(c *Container, m *MountPoint) {
	if key := d.machine.KeysBelow[m.HostPath]; m.Share && key != "" {
		d.refuse(m.At, "share", "move it out of there, or give each container a directory of its own",
			"%s cannot be shared with container %s: there is a private key in it, %s", m.HostPath, c.ID, key)
	}
}
