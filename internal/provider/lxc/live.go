package lxc

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// A container may run with something else than the digest it was started with tells: its configuration was edited by hand before a
// start, a volume was unmounted inside, an address was taken away. What it runs with is therefore asked of the kernel. (lxc-info -c
// is of no help: it reads the file.)

// drift is in what a container runs otherwise than its configuration says.
func drift(h host.Host, config string, pid int) []plan.Field {
	var d plan.Delta
	want, _ := keys(config)
	addressed(&d, h, pid, want)
	mounts := mountsOf(want["lxc.mount.entry"])
	for target, source := range mounts {
		mounted(&d, h, pid, target, source)
	}
	raw, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "mountinfo"))
	if err != nil {
		return d.Fields // it has just ended
	}
	for _, m := range foreign(parseMounts(string(raw)), mounts) {
		d.Compare("mounted at "+m.point, m.root, "")
	}
	return d.Fields
}

// mountsOf reads the entries of a configuration as keys gives them: sources by their targets inside.
func mountsOf(entries string) map[string]string {
	out := map[string]string{}
	for e := range strings.SplitSeq(entries, "; ") {
		if f := strings.Fields(e); len(f) > 1 {
			out["/"+unescape(f[1])] = unescape(f[0])
		}
	}
	return out
}

// unescape is the inverse of escape; the kernel's lists of mounts are written the same way.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// mounted compares what is at a mount's target with its source. The target is only looked at: what is there is in the container's hands.
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

// addressed looks for the container's address among those of its network namespace (/proc/PID/net/fib_trie lists them).
func addressed(d *plan.Delta, h host.Host, pid int, want map[string]string) {
	address, _, _ := strings.Cut(want["lxc.net.0.ipv4.address"], "/")
	if address == "" {
		return
	}
	routes, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net", "fib_trie"))
	if err == nil && !strings.Contains(string(routes), "|-- "+address+"\n") {
		d.Compare("address", "not there", address)
	}
}

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	device string // major:minor
	root   string // of the mount, within its file system
	point  string // where it is
	block  bool   // its file system lies on a device or in a pool: nobody in an unprivileged container can have mounted it
}

func parseMounts(text string) []mount {
	var out []mount
	for line := range strings.Lines(text) {
		left, right, _ := strings.Cut(line, " - ")
		f, end := strings.Fields(left), strings.Fields(right)
		if len(f) < 5 || len(end) < 2 {
			continue
		}
		block := strings.HasPrefix(end[1], "/dev/") || end[0] == "zfs"
		out = append(out, mount{device: f[2], root: unescape(f[3]), point: unescape(f[4]), block: block})
	}
	return out
}

// foreign are mounts of the hypervisor's file systems that the configuration does not ask for. What the container itself mounts
// somewhere else is within what it has anyway.
func foreign(all []mount, wanted map[string]string) []mount {
	var own, out []mount
	for _, m := range all {
		if _, ok := wanted[m.point]; ok || m.point == "/" {
			own = append(own, m)
		}
	}
	for _, m := range all {
		if hypervisors(m, own) && !slices.ContainsFunc(own, m.within) {
			out = append(out, m)
		}
	}
	return out
}

// hypervisors tells mounts of file systems that are the hypervisor's from those that the container made.
func hypervisors(m mount, own []mount) bool {
	return m.block || slices.ContainsFunc(own, func(o mount) bool { return o.device == m.device })
}

// within is whether m shows nothing that o does not.
func (m mount) within(o mount) bool {
	return m.device == o.device && (m.root == o.root || o.root == "/" || strings.HasPrefix(m.root, o.root+"/"))
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
