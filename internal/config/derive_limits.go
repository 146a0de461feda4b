package config

import (
	"fmt"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// What a container has where the file says nothing about it. No container is without a limit: what one takes, all
// others lack.
const (
	defaultMemoryMB  = 2048
	proxmoxMemoryMB  = 512  // Proxmox's own
	defaultProcesses = 4096 // processes and threads; systemd, a web server and a database together have some dozens
	memoryOfProcess  = 4    // MB: a large container may have one for each
)

// processes is how many processes and threads a container may have. A raw option of the users' that says it stays
// theirs: 0.
func (d *derivation) processes(c *Container, memory int64) int64 {
	raw := func(o spec.Option) bool { return o.Key == "lxc.cgroup2.pids.max" || o.Key == "lxc.cgroup.pids.max" }
	switch {
	case c.PidsMax > 0:
		return int64(c.PidsMax)
	case slices.ContainsFunc(c.Options, raw):
		return 0
	}
	return max(defaultProcesses, memory>>20/memoryOfProcess)
}

// memory fills in a limit where neither the container nor the defaults of the file have one, and tells.
func (d *derivation) memory(c *Container, s *spec.Container) {
	raw := func(o spec.Option) bool {
		return o.Key == "lxc.cgroup2.memory.max" || o.Key == "lxc.cgroup.memory.limit_in_bytes"
	}
	if s.MemoryBytes > 0 || d.house.templates[c.ID] || slices.ContainsFunc(c.Options, raw) {
		return
	}
	hint := `give it its own with "memory_mb", or all of them with proxmox_defaults.lxc.memory_mb`
	if d.proxmox() { // one that is there already keeps what it has
		d.note(diag.Note, c.Source, fmt.Sprintf("container %s says nothing about its memory: Proxmox gives a new "+
			"one %d MB", c.ID, proxmoxMemoryMB), hint)
		return
	}
	s.MemoryBytes = defaultMemoryMB << 20
	d.note(diag.Note, c.Source, fmt.Sprintf("container %s says nothing about its memory: it may use %d MB", c.ID,
		defaultMemoryMB), hint)
}
