package lxc

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// A container may run with something else than the digest it was started with tells: its configuration was edited by
// hand before a start, a volume was unmounted inside, an address was taken away. What it runs with is therefore asked
// of the kernel. (lxc-info -c is of no help: it reads the file.)

// drift is in what a container runs otherwise than its configuration says.
func drift(h host.Host, config string, pid int) []plan.Field {
	var d plan.Delta
	want, _ := keys(config)
	address, _, _ := strings.Cut(want["lxc.net.0.ipv4.address"], "/")
	provider.Addressed(&d, h, pid, address)
	address6, _, _ := strings.Cut(want["lxc.net.0.ipv6.address"], "/")
	provider.Addressed6(&d, h, pid, address6)
	limitDrift(&d, h, want, pid)
	mounts := mountsOf(want["lxc.mount.entry"])
	for target, source := range mounts {
		mounted(&d, h, pid, target, source)
	}
	all, err := provider.MountsIn(h, pid)
	if err != nil {
		return d.Fields // it has just ended
	}
	for _, m := range provider.ForeignMounts(all, mounts, provider.HypervisorMounts(h)) {
		d.Compare("mounted at "+m.Point, m.Root, "")
	}
	return d.Fields
}

// mountsOf reads the entries of a configuration as keys gives them: sources by their targets inside.
func mountsOf(entries string) map[string]string {
	out := map[string]string{}
	for e := range strings.SplitSeq(entries, "; ") {
		if f := strings.Fields(e); len(f) > 1 {
			out["/"+host.Unescape(f[1])] = host.Unescape(f[0])
		}
	}
	return out
}

// mounted compares what is at a mount's target with its source. The target is only looked at: what is there is in the
// container's hands.
func mounted(d *plan.Delta, h host.Host, pid int, target, source string) {
	want, err := h.Lstat(source)
	if err != nil {
		return // the volume's own object says so
	}
	have, err := h.Lstat(filepath.Join("/proc", strconv.Itoa(pid), "root", target))
	if err != nil || have.Inode != want.Inode || have.Device != want.Device {
		d.Compare("mounted at "+target, "something else", source)
	}
}

// children are the processes that a container's init has started, by what they run (proc_pid_task_children(5)).
func children(h host.Host, pid int) map[int]string {
	out, id := map[int]string{}, strconv.Itoa(pid)
	raw, err := h.ReadFile(filepath.Join("/proc", id, "task", id, "children"))
	if err != nil {
		return out
	}
	for child := range strings.FieldsSeq(string(raw)) {
		n, _ := strconv.Atoi(child) // the kernel writes numbers
		if exe, err := h.Readlink(filepath.Join("/proc", child, "exe")); err == nil {
			out[n] = exe
		}
	}
	return out
}
