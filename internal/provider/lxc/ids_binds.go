package lxc

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// sharedBinds are the users' directories of a container that another one of this machine mounts too, or a directory in
// or above one.
func sharedBinds(h host.Host, s spec.IDRange) (out []string) {
	own, _ := h.Lstat(configPath(s.Path, s.ID)) // without it all are others
	for _, directory := range s.Directories {
		names, _ := h.ReadDir(directory) // there may be none
		for _, name := range names {
			file := configPath(directory, name)
			m, err := h.Lstat(file)
			if err != nil || m.Inode == own.Inode && m.Device == own.Device {
				continue
			}
			out = append(out, provider.AlsoMounted(h, s, mountSources(h, file), name, file)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mountSources are the paths that a configuration mounts, by entries of its own and by its table
// (lxc.container.conf(5)).
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
