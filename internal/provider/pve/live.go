package pve

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	mountField = "mounted at "       // begins the fields that tell of volumes
	extraField = "still mounted at " // begins those of what the configuration does not speak of
)

// drift is in what a container that has booted runs otherwise than its configuration says. What waits for a restart is
// not drift. Proxmox leaves the address to the container's own network tools, so that before the end of the boot
// nothing can be told.
func drift(h host.Host, c *conf, pid int) []plan.Field {
	var d plan.Delta
	unmounted(&d, h, c, pid)
	// there Proxmox sets no address
	if _, waits := c.waiting()["net0"]; !waits && c.current().get("ostype") != "unmanaged" {
		networked(&d, h, pid, parseProperty(c.current().get("net0"), ""))
	}
	return d.Fields
}

// unmounted looks for each mount point among the mounts of the container's init. Proxmox refuses one that leads over a
// symbolic link, so that the kernel has it by the same path.
func unmounted(d *plan.Delta, h host.Host, c *conf, pid int) {
	all, err := provider.MountsIn(h, pid)
	if err != nil {
		return
	}
	waiting := c.waiting()
	for _, key := range c.current().keys() {
		p := parseProperty(c.current().get(key), "volume")
		if _, waits := waiting[key]; waits || !mountKey.MatchString(key) || !filepath.IsAbs(p.of["mp"]) {
			continue
		}
		target := filepath.Clean(p.of["mp"])
		if !slices.ContainsFunc(all, func(m provider.Mount) bool { return m.Point == target }) {
			d.Compare(mountField+target, "nothing", p.word)
		}
	}
}

// networked compares an interface with fixed addresses; one by DHCP or by hand is the container's own.
func networked(d *plan.Delta, h host.Host, pid int, net property) {
	if own, _, fixed := strings.Cut(net.of["ip6"], "/"); fixed && net.of["link_down"] != "1" {
		provider.Addressed6(d, h, pid, own)
	}
	address, _, fixed := strings.Cut(net.of["ip"], "/")
	if !fixed || net.of["link_down"] == "1" {
		return
	}
	provider.Addressed(d, h, pid, address)
	provider.Routed(d, h, pid, net.of["name"], net.of["gw"])
}

// tooMuch is what an unprivileged container has mounted of the hypervisor's and its configuration does not speak of: it
// was taken out of the file while the container ran, by whomever. A privileged one mounts what it likes.
func tooMuch(h host.Host, c *conf, pid int) []plan.Field {
	if c.current().get("unprivileged") != "1" {
		return nil
	}
	all, err := provider.MountsIn(h, pid)
	if err != nil {
		return nil
	}
	wanted := map[string]string{}
	for _, key := range c.current().keys() {
		if p := parseProperty(c.current().get(key), "volume"); mountKey.MatchString(key) {
			wanted[filepath.Clean(p.of["mp"])] = p.word
		}
	}
	for _, o := range c.current().options() {
		if f := strings.Fields(o.value); o.key == "lxc.mount.entry" && len(f) > 1 {
			wanted[filepath.Join("/", host.Unescape(f[1]))] = host.Unescape(f[0])
		}
	}
	var d plan.Delta
	for _, m := range provider.ForeignMounts(all, wanted, provider.HypervisorMounts(h)) {
		if !strings.Contains(m.Point, "/.zfs/") { // snapshots of its own that it looks into
			d.Compare(extraField+m.Point, m.Root, "")
		}
	}
	return d.Fields
}
