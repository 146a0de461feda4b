package config

import (
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// firstVM is the smallest id that users give to virtual machines.
const firstVM = 1000

// dependencies checks clone_from_ctid and dependencies, fills DependsOn, and looks for cycles.
func (c *checker) dependencies() {
	for _, x := range c.cfg.Containers {
		if x.CloneFrom != "" && c.byID[x.CloneFrom] == nil {
			c.errorf(x.At, "clone_from_ctid", "name a container of lxc_configs", "there is no container %q to clone",
				x.CloneFrom)
		}
		for i, id := range x.Dependencies {
			c.dependency(x, i, id)
		}
	}
	c.cycles()
}

func missingHint(id string) string {
	if validID(id) && number(id) >= firstVM {
		return "if it is a virtual machine, set core_paths.vm_config_file in the hypervisor's file"
	}
	return "add the container to lxc_configs, or remove the id"
}

func (c *checker) dependency(x *Container, i int, id string) {
	key := element("dependencies", i)
	switch {
	case id == "" && c.reported(x.At, key): // it is no string
	case id == x.ID:
		c.errorf(x.At, key, "remove it", "the container depends on itself")
	case slices.Index(x.Dependencies, id) < i:
		c.warnf(x.At, key, "remove it", "%q stands twice", id)
	case c.byID[id] != nil:
		x.DependsOn = append(x.DependsOn, id)
	case validID(id) && number(id) >= firstVM && c.cfg.Hypervisor.CorePaths.VMConfig != "":
		c.tell(diag.Note, x.At, key, "", "%s is taken for a virtual machine; phoenix does not wait for it", id)
	default:
		c.errorf(x.At, key, missingHint(id), "there is no container %q to depend on", id)
	}
}

// cycles tells each cycle of dependencies and clones once, at the key that closes it. The time is linear in containers
// and edges.
func (c *checker) cycles() {
	w := &walk{checker: c, state: map[*Container]byte{}}
	for _, x := range c.cfg.Containers {
		w.visit(x)
	}
}

type walk struct {
	*checker
	state map[*Container]byte // 1 on the way, 2 done
	way   []string
}

func (w *walk) visit(x *Container) {
	w.state[x] = 1
	w.way = append(w.way, x.ID)
	if x.CloneFrom != "" {
		w.edge(x, "clone_from_ctid", x.CloneFrom)
	}
	for i, id := range x.Dependencies {
		if id != x.ID {
			w.edge(x, element("dependencies", i), id)
		}
	}
	w.way = w.way[:len(w.way)-1]
	w.state[x] = 2
}

func (w *walk) edge(x *Container, key, id string) {
	to := w.byID[id]
	switch {
	case to == nil || w.state[to] == 2:
	case w.state[to] == 1:
		cycle := append(slices.Clone(w.way[slices.Index(w.way, id):]), id)
		w.errorf(x.At, key, "remove one of these dependencies", "dependency cycle: %s", strings.Join(cycle, " -> "))
	default:
		w.visit(to)
	}
}
