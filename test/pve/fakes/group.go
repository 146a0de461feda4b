package main

import (
	"errors"
	"os"
	"path/filepath"
)

// A container's control group is one of the second generation, as on a Proxmox host: groups/processes is the machine's
// own tree, where inits go to, and groups/files what the limits are read from and written to. That a kernel heeds them
// is not shown here.

// group is where a container's control group is, below both; empty: the test has made no groups.
func (b base) group(id string) string {
	if _, err := os.Stat(b.path("groups")); err != nil {
		return ""
	}
	return filepath.Join(filepath.Base(string(b)), "lxc", id)
}

// limit gives a container that starts the limits of its configuration, as lxc does, and no others.
func (b base) limit(id string, conf *conf) error {
	group, pids := b.group(id), "max"
	if group == "" {
		return nil
	}
	for _, r := range conf.raw {
		if r[0] == "lxc.cgroup2.pids.max" {
			pids = r[1]
		}
	}
	file := b.path("groups", "files", group, "pids.max")
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(pids+"\n"), 0o644))
}

// enter is the init's own way into its group.
func (b base) enter(id string) error {
	group := b.group(id)
	if group == "" {
		return nil
	}
	dir := b.path("groups", "processes", group, "ns")
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644))
}
