package cli

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// kindOf says what stands at a path that the configuration names. Archives may be links, directories may not: what is
// mounted must be the same tomorrow.
func (a *app) kindOf(cfg *config.Config, storages []config.Storage, path string, there host.Meta) string {
	isTemplate := slices.ContainsFunc(cfg.Containers, func(c *config.Container) bool {
		return config.TemplateFile(c.Template, storages) == path
	})
	if target, err := host.Follow(a.host, path); isTemplate && err == nil {
		if m, err := a.host.Lstat(target); err == nil {
			there = m
		}
	}
	return host.KindOf(there.Mode)
}

// locate finds the other names that the same places have: where links lead, and by the kernel's list of mounts
// (proc_pid_mountinfo(5)) the device with the path on it, so that a directory that is mounted a second time is known
// as itself.
func locate(paths []string, mountinfo string) config.Locations {
	out := config.Locations{}
	for _, p := range paths {
		real := followed(p)
		if real != p {
			out[p] = append(out[p], real)
		}
		if device := onDevice(mountinfo, real); device != "" {
			out[p] = append(out[p], device)
		}
	}
	return out
}

// onDevice is a path as 8:1/srv/data: device, and path on it; empty: no mount has it. Of two at one place the later
// hides the earlier.
func onDevice(mountinfo, path string) string {
	best, out := -1, ""
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		at := host.Unescape(f[4])
		rest, inside := strings.CutPrefix(path, strings.TrimSuffix(at, "/"))
		if !inside || rest != "" && rest[0] != '/' || len(at) < best {
			continue
		}
		best, out = len(at), f[2]+strings.TrimSuffix(filepath.Join(host.Unescape(f[3]), rest), "/")
	}
	return out
}

// resolvedAll are directories as they are behind links, and absolute.
func resolvedAll(dirs []string) []string {
	var out []string
	for _, dir := range dirs {
		out = append(out, followed(absolute(dir)))
	}
	return out
}
