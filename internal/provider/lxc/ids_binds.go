package lxc

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Directories of the hypervisor that are mounted in a container are the users'. Only what has ids of the container's former range in
// them moves along, and only where no other container looks at it.

// inBinds are the former ranges that are moved in the users' directories: ids below 65536 are those of the hypervisor's own users, of
// which nobody can tell whether they meant the container.
func inBinds(from []spec.IDMap) []spec.IDMap {
	return slices.DeleteFunc(slices.Clone(from), func(m spec.IDMap) bool { return m.Base < idrange.Size })
}

// tellBinds adds a field for each directory of the users' that a move is about.
func tellBinds(d *plan.Delta, want spec.IDRange, have *IDsStatus, former string) {
	for _, dir := range want.Binds {
		to := idrange.Text(want.IDMap)
		if m, ok := idrange.Parse(former); !ok || len(inBinds([]spec.IDMap{m})) == 0 {
			to = "stays as it is: its ids are the hypervisor's own"
		}
		d.Compare("files in "+dir, former, to)
	}
	for _, other := range have.Shared {
		d.Compare("mounted in another container too", other, "")
	}
}

// sharedBinds are the users' directories of a container that another one of this machine mounts too, or a directory in or above one.
func sharedBinds(h host.Host, s spec.IDRange) (out []string) {
	own, _ := h.Lstat(configPath(s.Path, s.ID)) // without it all are others
	for _, folder := range s.Folders {
		names, _ := h.ReadDir(folder) // there may be none
		for _, name := range names {
			file := configPath(folder, name)
			m, err := h.Lstat(file)
			if err != nil || m.Inode == own.Inode && m.Device == own.Device {
				continue
			}
			for _, source := range mountSources(h, file) {
				for _, dir := range s.Binds {
					if sameDir(h, source, dir) {
						out = append(out, fmt.Sprintf("%s by container %s (%s)", dir, name, file))
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mountSources are the paths that a configuration mounts, by entries of its own and by its table (lxc.container.conf(5)).
func mountSources(h host.Host, file string) (out []string) {
	raw, err := h.ReadFile(file)
	if err != nil {
		return nil
	}
	entry := func(line string) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "/") {
			out = append(out, filepath.Clean(host.Unescape(f[0])))
		}
	}
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(line, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "lxc.mount.entry":
			entry(value)
		case "lxc.mount.fstab", "lxc.mount":
			table, _ := h.ReadFile(value) // one that is not there mounts nothing
			for l := range strings.Lines(string(table)) {
				entry(l)
			}
		}
	}
	return out
}

// sameDir is whether one path is, holds or is in the other, by its name or as the inode that is there.
func sameDir(h host.Host, a, b string) bool {
	if a == "/" || b == "/" || a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/") {
		return true
	}
	ma, errA := h.Lstat(a)
	mb, errB := h.Lstat(b)
	return errA == nil && errB == nil && ma.Inode == mb.Inode && ma.Device == mb.Device
}

// refuseShared is the error for directories that another container mounts too.
func refuseShared(s spec.IDRange, shared []string) error {
	return provider.PermanentHint(fmt.Errorf("container %s keeps its ids: a directory of the hypervisor that it mounts is mounted too: %s",
		s.ID, strings.Join(shared, ", ")),
		"give each container a directory of its own (host_path in mount_points, lxc.mount.entry in the other's configuration), then phoenix apply "+s.ID+" --yes")
}
