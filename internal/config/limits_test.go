package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// No container is without a limit, and none that the file gives is changed.
func TestContainerLimits(t *testing.T) {
	cfg := homelab(t)
	c, _ := cfg.Container("201")
	for name, x := range map[string]struct {
		set          func()
		memory, pids int64
		told         bool
	}{
		"as in the file": {func() {}, 256, 4096, false},
		"its own":        {func() { c.PidsMax = 100 }, 256, 100, false},
		"large":          {func() { c.MemoryMB = 72000 }, 72000, 18000, false},
		"without memory": {func() { c.MemoryMB = 0 }, 2048, 4096, true},
		"by raw options": {func() {
			c.MemoryMB = 0
			c.Options = []spec.Option{{Key: "lxc.cgroup2.memory.max", Value: "1G"},
				{Key: "lxc.cgroup2.pids.max", Value: "9"}}
		}, 0, 0, false},
	} {
		before := *c
		x.set()
		objects, diags := Derive(cfg, machine)
		s := get[spec.Container](t, objects, "container/201")
		*c = before
		if s.MemoryBytes>>20 != x.memory || s.PidsMax != x.pids {
			t.Errorf("%s: %d MB, %d processes", name, s.MemoryBytes>>20, s.PidsMax)
		}
		if told := strings.Contains(fmt.Sprint(diags), "says nothing about its memory"); told != x.told {
			t.Errorf("%s: told: %v\n%v", name, told, diags)
		}
	}
}
