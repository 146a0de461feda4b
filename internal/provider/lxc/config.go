package lxc

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// definitionVar is in the environment of a container's init: the digest of the configuration it was started with.
const definitionVar = provider.DefinitionVar

const cpuPeriod = 100000 // µs

// render writes the configuration (lxc.container.conf(5)). Its last line carries the digest of all before it, so that a
// running container tells what it was started with.
func render(s spec.Container) string {
	lines := []string{mark(s.ID), "# " + strings.TrimSpace(s.Name), "lxc.include = /usr/share/lxc/config/common.conf"}
	if s.IDMap != (spec.IDMap{}) {
		lines = append(append(lines, "lxc.include = /usr/share/lxc/config/userns.conf"), idMapLines(s.IDMap)...)
	}
	lines = append(lines,
		"lxc.rootfs.path = dir:"+filepath.Join(home(s.Path, s.ID), "rootfs"),
		"lxc.uts.name = "+s.Name,
		// systemd inside makes mount namespaces for its units; without AppArmor both lines have no effect.
		"lxc.apparmor.profile = generated",
		"lxc.apparmor.allow_nesting = 1",
		"lxc.signal.halt = SIGRTMIN+3")
	lines = append(lines, network(s)...)
	lines = append(lines, limits(s)...)
	for _, m := range sorted(s.Mounts) {
		lines = append(lines, "lxc.mount.entry = "+provider.MountEntry(m))
	}
	lines = append(lines, deviceLines(s)...)
	for _, o := range s.Options {
		lines = append(lines, o.Key+" = "+o.Value)
	}
	text := strings.Join(lines, "\n") + "\n"
	sum := sha256.Sum256([]byte(provider.PlainBinds(text))) // a start with them is no reason for another one
	return text + "lxc.environment = " + definitionVar + "=" + hex.EncodeToString(sum[:12]) + "\n"
}

func idMapLines(m spec.IDMap) []string {
	return []string{fmt.Sprintf("lxc.idmap = u 0 %d %d", m.Base, m.Count),
		fmt.Sprintf("lxc.idmap = g 0 %d %d", m.Base, m.Count)}
}

func network(s spec.Container) []string {
	n := s.Interface
	if n.Bridge == "" {
		return []string{"lxc.net.0.type = empty"}
	}
	mac := n.MAC
	if mac == "" {
		mac = spec.StableMAC(s.Path, s.ID)
	}
	lines := []string{"lxc.net.0.type = veth", "lxc.net.0.link = " + n.Bridge, "lxc.net.0.flags = up",
		"lxc.net.0.name = " + n.Name, "lxc.net.0.hwaddr = " + mac}
	if n.Port != "" {
		lines = append(lines, "lxc.net.0.veth.pair = "+n.Port)
	}
	if n.MTU != nil && *n.MTU > 0 {
		lines = append(lines, fmt.Sprintf("lxc.net.0.mtu = %d", *n.MTU))
	}
	family := "ipv4"
	if strings.Contains(n.Address, ":") {
		family = "ipv6"
	}
	if n.Address != "" {
		lines = append(lines, "lxc.net.0."+family+".address = "+n.Address)
	}
	if n.Gateway != "" {
		lines = append(lines, "lxc.net.0."+family+".gateway = "+n.Gateway)
	}
	if n.Address6 != "" {
		lines = append(lines, "lxc.net.0.ipv6.address = "+n.Address6)
	}
	if n.Gateway6 != "" {
		lines = append(lines, "lxc.net.0.ipv6.gateway = "+n.Gateway6)
	}
	return lines
}

// limits are written for both generations of control groups; lxc ignores those of the one that is not there. Cores are
// a quota, not a set: containers with one core each then do not share the first. Swap has a limit of its own only in
// version 2.
func limits(s spec.Container) []string {
	var lines []string
	if s.MemoryBytes > 0 {
		lines = append(lines, fmt.Sprintf("lxc.cgroup.memory.limit_in_bytes = %d", s.MemoryBytes),
			fmt.Sprintf("lxc.cgroup2.memory.max = %d", s.MemoryBytes))
	}
	if s.SwapBytes > 0 {
		lines = append(lines, fmt.Sprintf("lxc.cgroup2.memory.swap.max = %d", s.SwapBytes))
	}
	if s.Cores > 0 {
		lines = append(lines, fmt.Sprintf("lxc.cgroup.cpu.cfs_period_us = %d", cpuPeriod),
			fmt.Sprintf("lxc.cgroup.cpu.cfs_quota_us = %d", s.Cores*cpuPeriod),
			fmt.Sprintf("lxc.cgroup2.cpu.max = %d %d", s.Cores*cpuPeriod, cpuPeriod))
	}
	if s.PidsMax > 0 {
		lines = append(lines, fmt.Sprintf("lxc.cgroup.pids.max = %d", s.PidsMax),
			fmt.Sprintf("lxc.cgroup2.pids.max = %d", s.PidsMax))
	}
	return lines
}

// sorted puts a mount point before those below it.
func sorted(mounts []spec.Mount) []spec.Mount {
	return slices.SortedFunc(slices.Values(mounts),
		func(a, b spec.Mount) int { return strings.Compare(a.Target, b.Target) })
}

// definition reads the digest from a configuration; empty: it has none.
func definition(config string) string { return provider.Definition(config) }
