package provider

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// What a running container has is asked of the kernel, by files of its init's below /proc: no tool is run, and nothing
// inside is trusted. A file that cannot be read tells of an init that has just ended, and nothing of drift.

// Mount is a line of mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	Device string // major:minor
	Root   string // of the mount, within its file system
	Point  string // where it is
	// its file system lies on a device or in a pool: nobody in an unprivileged container can have mounted it
	Block bool
}

// Within is whether m shows nothing that o does not.
func (m Mount) Within(o Mount) bool {
	return m.Device == o.Device && (m.Root == o.Root || o.Root == "/" || strings.HasPrefix(m.Root, o.Root+"/"))
}

// MountsIn are the mounts that a process sees.
func MountsIn(h host.Host, pid int) ([]Mount, error) {
	raw, err := h.ReadFile(procFile(pid, "mountinfo"))
	if err != nil {
		return nil, err
	}
	return parseMounts(string(raw)), nil
}

func parseMounts(mountinfo string) (out []Mount) {
	for line := range strings.Lines(mountinfo) {
		left, right, _ := strings.Cut(line, " - ")
		f, end := strings.Fields(left), strings.Fields(right)
		if len(f) < 5 || len(end) < 2 {
			continue
		}
		block := strings.HasPrefix(end[1], "/dev/") || end[0] == "zfs"
		out = append(out, Mount{Device: f[2], Root: host.Unescape(f[3]), Point: host.Unescape(f[4]), Block: block})
	}
	return out
}

// HypervisorMounts are what the hypervisor itself has mounted, as this process sees it.
func HypervisorMounts(h host.Host) []Mount {
	raw, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil // then none explains what a container has
	}
	return parseMounts(string(raw))
}

// passedOn is whether a mount is one that the hypervisor has below a directory which the container is to see, and that
// therefore is below it in there too: of those there may be any number, and they come and go.
func (m Mount) passedOn(wanted map[string]string, hypervisor []Mount) bool {
	for target, source := range wanted {
		rest, below := strings.CutPrefix(m.Point, target+"/")
		at := filepath.Join(source, rest)
		if below && slices.ContainsFunc(hypervisor,
			func(o Mount) bool { return o.Point == at && o.Device == m.Device && o.Root == m.Root }) {
			return true
		}
	}
	return false
}

// ForeignMounts are mounts of the hypervisor's file systems that the configuration does not ask for; wanted has those
// that it does: sources by where they are. What is mounted below a source on the hypervisor comes along. What the
// container itself mounts somewhere else is within what it has anyway.
func ForeignMounts(all []Mount, wanted map[string]string, hypervisor []Mount) (out []Mount) {
	var own []Mount
	for _, m := range all {
		if _, ok := wanted[m.Point]; ok || m.Point == "/" {
			own = append(own, m)
		}
	}
	for _, m := range all {
		hypervisors := m.Block || slices.ContainsFunc(own, func(o Mount) bool { return o.Device == m.Device })
		if hypervisors && !slices.ContainsFunc(own, m.Within) && !m.passedOn(wanted, hypervisor) {
			out = append(out, m)
		}
	}
	return out
}

// Addressed looks for an IPv4 address among those of a process's network namespace (fib_trie lists them); empty: for
// none.
func Addressed(d *plan.Delta, h host.Host, pid int, address string) {
	trie, err := h.ReadFile(procFile(pid, "net", "fib_trie"))
	if address != "" && err == nil && !strings.Contains(string(trie), "|-- "+address+"\n") {
		d.Compare("address", "not there", address)
	}
}

// Addressed6 likewise looks for an IPv6 address (if_inet6 lists them, without colons). A kernel without IPv6 has no
// list.
func Addressed6(d *plan.Delta, h host.Host, pid int, address string) {
	list, err := h.ReadFile(procFile(pid, "net", "if_inet6"))
	ip, bad := netip.ParseAddr(address)
	if err == nil && bad == nil && !strings.Contains(string(list), fmt.Sprintf("%x ", ip.AsSlice())) {
		d.Compare("address", "not there", address)
	}
}

// Routed looks for routes over an interface, which it has none of once it is down, and for a default route where there
// should be a gateway. Which one it is may be the container's own choice, such as a tunnel.
func Routed(d *plan.Delta, h host.Host, pid int, link, gateway string) {
	raw, err := h.ReadFile(procFile(pid, "net", "route"))
	if err != nil {
		return
	}
	up, leads := false, false
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line) // interface, destination, gateway, flags, references, use, metric, mask
		if len(f) < 8 {
			continue
		}
		up = up || f[0] == link
		leads = leads || f[1] == "00000000" && f[7] == "00000000"
	}
	if !up {
		d.Compare("interface "+link, "down, or without routes", "up")
	}
	if gateway != "" && !leads {
		d.Compare("default route", "", gateway)
	}
}

func procFile(pid int, name ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, name...)...)
}
