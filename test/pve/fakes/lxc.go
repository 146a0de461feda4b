package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// give writes what lxc is given at a start: what Proxmox makes of the keys, the raw lines after it, and which
// processors. Proxmox writes the file at a start and with every change of the configuration, also of a container that
// runs: what that one was started with is not to be had from there.
func (b base) give(id string, conf *conf) error {
	if conf.keys["template"] == "1" {
		return nil
	}
	raw := func(key string) bool {
		return slices.ContainsFunc(conf.raw, func(r [2]string) bool { return r[0] == key })
	}
	lines := []string{"lxc.cgroup.relative = 0", "lxc.arch = amd64",
		"lxc.include = /usr/share/lxc/config/debian.common.conf"}
	if !raw("lxc.apparmor.profile") {
		lines = append(lines, "lxc.apparmor.profile = generated", "lxc.apparmor.raw = allow mqueue,")
	}
	lines = append(lines, "lxc.monitor.unshare = 1")
	if conf.keys["unprivileged"] == "1" && !raw("lxc.idmap") {
		lines = append(lines, "lxc.idmap = u 0 100000 65536", "lxc.idmap = g 0 100000 65536")
	}
	lines = append(lines, "lxc.tty.max = 2", "lxc.environment = TERM=linux", "lxc.uts.name = "+conf.keys["hostname"],
		"lxc.rootfs.path = /var/lib/lxc/"+id+"/rootfs")
	if net := parse(conf.keys["net0"], ""); len(net.of) > 0 {
		lines = append(lines, "lxc.net.0.type = veth", "lxc.net.0.veth.pair = veth"+id+"i0",
			"lxc.net.0.hwaddr = "+net.of["hwaddr"],
			"lxc.net.0.name = "+net.of["name"], "lxc.net.0.script.up = /usr/share/lxc/lxcnetaddbr")
	}
	for _, r := range conf.raw {
		lines = append(lines, r[0]+" = "+r[1])
	}
	if conf.keys["cores"] != "" && !raw("lxc.cgroup2.cpuset.cpus") {
		lines = append(lines, "lxc.cgroup2.cpuset.cpus = 0-1")
	}
	if err := os.MkdirAll(b.path("lib", id), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.path("lib", id, "config"), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// binds are what the raw lines mount of the hypervisor's, by source.
func (p part) binds() map[string]string {
	out := map[string]string{}
	blank := strings.NewReplacer(`\040`, " ", `\011`, "\t")
	for _, r := range p.raw {
		f := strings.Fields(r[1])
		if r[0] == "lxc.mount.entry" && len(f) > 3 && filepath.IsAbs(f[0]) && strings.Contains(f[3], "bind") {
			out[blank.Replace(f[0])] = blank.Replace(f[1])
		}
	}
	return out
}
