package config

import (
	"fmt"
	"path"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// Locations is where paths are on this machine: each path with the other names of the same place, behind links and
// behind mounts. The names are compared as paths are.
type Locations map[string][]string

// of are all names of a path.
func (l Locations) of(p string) []string { return append([]string{p}, l[p]...) }

// overlaps reports whether one of the two places is, or is inside of, the other.
func (l Locations) overlap(a, b string) bool {
	return slices.ContainsFunc(l.of(a), func(x string) bool {
		return slices.ContainsFunc(l.of(b), func(y string) bool { return within(x, y) || within(y, x) })
	})
}

// reserved is a place of the hypervisor that no container may be given a part of, nor what it is a part of.
type reserved struct{ path, what string }

// systemPlaces are those of every hypervisor. What only may not be given as a whole is in system.
var systemPlaces = []reserved{
	{"/proc", "the kernel's"}, {"/sys", "the kernel's"}, {"/dev", "the kernel's"}, {"/run", "the running system's"},
	{"/boot", "the boot loader's"}, {"/etc/pve", "Proxmox's own configuration"},
	{"/etc/phoenix", "phoenix's configuration"},
	{"/etc/passwd", "the system's list of users"}, {"/root", "root's own"}, {"/usr/bin", "the system's programs"},
	{"/usr/lib", "the system's libraries"}, {"/var/lib/dpkg", "the package system's"},
}

// proxmoxParts are the directories in a storage that Proxmox keeps containers, archives and backups in.
var proxmoxParts = []string{"images", "private", "template", "dump", "snippets"}

// Places lists the paths whose Locations Derive wants.
func Places(cfg *Config, m Machine) []string {
	var out []string
	for _, c := range cfg.Containers {
		for _, p := range c.MountPoints {
			out = append(out, cleanPath(p.HostPath))
		}
	}
	for _, r := range reservedPlaces(cfg, m) {
		out = append(out, r.path)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func reservedPlaces(cfg *Config, m Machine) []reserved {
	out := slices.Clone(systemPlaces)
	if m.Root != "" {
		out = append(out, reserved{m.Root, "where phoenix keeps what it owns"})
	}
	for _, dir := range m.Directories {
		if slices.Contains(system, dir) { // whoever keeps a file in /srv does not own all that is in there
			continue
		}
		out = append(out, reserved{dir, "where phoenix's configuration is"})
	}
	for _, c := range cfg.Containers {
		for _, v := range c.Volumes {
			if path.IsAbs(v.Pool) {
				out = append(out, reserved{cleanPath(v.Pool), "a pool that phoenix keeps volumes in"})
			}
		}
	}
	for _, dir := range m.Homes {
		out = append(out, reserved{dir, "where adopted containers are"})
	}
	for _, s := range m.Storages {
		for _, part := range proxmoxParts {
			if s.Path != "" {
				out = append(out, reserved{path.Join(s.Path, part), "storage " + s.ID + " of Proxmox"})
			}
		}
		if s.Pool != "" && (s.Type == "zfspool" || s.Type == "zfs") {
			out = append(out, reserved{path.Join("/", s.Pool), "storage " + s.ID + " of Proxmox"})
		}
	}
	return out
}

// hostPaths refuses directories that would put the hypervisor, phoenix or another container's volume into a container's
// hands. Links and mounts on this machine are looked through; what stands in the file alone was looked at by
// auditSharing.
func (d *derivation) hostPaths() {
	places := reservedPlaces(d.cfg, d.machine)
	var before []mounted
	for _, c := range d.cfg.Containers {
		for _, m := range c.MountPoints {
			p := cleanPath(m.HostPath)
			d.shareable(c, m)
			if !d.below(c, m, places, before) {
				continue
			}
			same := func(other string) bool { return d.machine.Locations.overlap(p, other) }
			if i := slices.IndexFunc(places, func(r reserved) bool { return same(r.path) }); i >= 0 {
				d.refuse(m.At, "host_path", "choose a directory that is for this container alone, or make a volume "+
					"for it in zfs_volumes",
					"host_path %s of container %s is, contains or is inside of %s, which is %s",
					d.shown(p), c.ID, places[i].path, places[i].what)
				continue
			}
			i := slices.IndexFunc(before, func(o mounted) bool {
				return o.container != c.ID && !(o.share && m.Share) && (same(o.path) || d.seenBelow(o.path, p))
			})
			if i >= 0 {
				d.refuse(m.At, "host_path", "give each container a directory of its own",
					"host_path %s of container %s is, contains or is inside of %s of container %s, see %s",
					d.shown(p), c.ID, d.shown(before[i].path), before[i].container, before[i].at.source("host_path"))
			}
			before = append(before, mounted{m.At, "host_path", p, c.ID, m.Share})
		}
	}
}

func (d *derivation) refuse(a At, key, hint, format string, args ...any) {
	d.note(diag.Error, a.source(key), fmt.Sprintf(format, args...), hint)
}

// located is a path as it is behind links, so that a container keeps the directory that was checked.
func (d *derivation) located(p string) string {
	if other := d.machine.Locations[p]; len(other) > 0 && path.IsAbs(other[0]) {
		return other[0]
	}
	return p
}

// shown is a path with where it resolves to.
func (d *derivation) shown(p string) string {
	if other := d.machine.Locations[p]; len(other) > 0 && path.IsAbs(other[0]) {
		return p + " (" + other[0] + ")"
	}
	return p
}

// kinds refuses what is something else on this machine than the file takes it for: a fifo as an archive is waited for
// without an end, and what a link resolves to may change.
func (d *derivation) kinds() {
	for _, c := range d.cfg.Containers {
		if kind := d.machine.Kinds[TemplateFile(c.Template, d.machine.Storages)]; kind != "" && kind != aFile {
			d.refuse(c.At, "template", "name an archive, or leave it out", "template %s is a %s, not a regular file",
				c.Template, kind)
		}
		for _, m := range c.MountPoints {
			switch kind := d.machine.Kinds[m.HostPath]; kind {
			case "", aDirectory:
			case aLink:
				hint := "name the directory itself"
				if at := d.located(m.HostPath); at != m.HostPath {
					hint = "write " + at
				}
				d.refuse(m.At, "host_path", hint, "host_path %s is a symbolic link to %s, which may point elsewhere "+
					"tomorrow", m.HostPath, d.machine.Links[m.HostPath])
			default:
				d.refuse(m.At, "host_path", "name a directory", "host_path %s is a %s, not a directory", m.HostPath,
					kind)
			}
		}
	}
}

// What Machine.Kinds says of a path.
const (
	aFile      = "file"
	aDirectory = "directory"
	aLink      = "symbolic link"
)
