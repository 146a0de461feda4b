package provider

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// A container's limits are files of its control group, on both generations: an unprivileged container's root may read
// and not write them (cgroups(7)). They hold from the moment they are written.

// Limit is one file of a container's control group.
type Limit struct {
	Path  string
	Value string // what is in it
}

// LimitOf looks up a limit by its lxc key, such as lxc.cgroup2.pids.max or lxc.cgroup.pids.max, of the container with
// that init; false: this machine has it not, or has it in the other generation.
func LimitOf(h host.Host, pid int, key string) (Limit, bool) {
	controller, file := "", ""
	if v2, ok := strings.CutPrefix(key, "lxc.cgroup2."); ok {
		file = v2
	} else if v1, ok := strings.CutPrefix(key, "lxc.cgroup."); ok {
		file = v1
		controller, _, _ = strings.Cut(v1, ".")
	}
	group := groupOf(h, pid, controller)
	if file == "" || group == "" {
		return Limit{}, false
	}
	for _, top := range hierarchies(h, controller) {
		path := filepath.Join(top, group, file)
		if raw, err := h.ReadFile(path); err == nil {
			return Limit{path, strings.TrimSpace(string(raw))}, true
		}
	}
	return Limit{}, false
}

// Set writes a limit. It fails where the kernel refuses: with what is used already, one of memory may not be possible.
func (l Limit) Set(ctx context.Context, h host.Host, value string) error {
	argv := []string{"sh", "-c", `printf '%s\n' "$2" >"$1"`, "sh", l.Path, value}
	_, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true})
	return err
}

// groupOf is the control group that a container's limits are on, below which its processes are; empty: it has none.
// Without a controller it is that of the second generation.
func groupOf(h host.Host, pid int, controller string) string {
	raw, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && listed(f[1], controller) {
			return payload(f[2])
		}
	}
	return ""
}

// payload cuts a path after the group that lxc, or Proxmox's lxc, made for the container: /lxc.payload.101/init.scope,
// /lxc/101/ns/init.scope.
func payload(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "lxc.payload.") {
			return strings.Join(parts[:i+1], "/")
		}
		if p == "lxc" && i+1 < len(parts) {
			return strings.Join(parts[:i+2], "/")
		}
	}
	return ""
}

func listed(controllers, one string) bool {
	if one == "" {
		return controllers == ""
	}
	for c := range strings.SplitSeq(controllers, ",") {
		if c == one {
			return true
		}
	}
	return false
}

// hierarchies are where the control groups of a controller are mounted.
func hierarchies(h host.Host, controller string) []string {
	raw, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		left, right, _ := strings.Cut(line, " - ")
		f, end := strings.Fields(left), strings.Fields(right)
		if len(f) < 5 || len(end) < 3 {
			continue
		}
		if controller == "" && end[0] == "cgroup2" || controller != "" && end[0] == "cgroup" &&
			listed(end[2], controller) {
			out = append(out, host.Unescape(f[4]))
		}
	}
	return out
}
