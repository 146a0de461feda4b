package cli

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// observeGuests looks which ranges Proxmox's containers have: those of this node, and those of the cluster's other
// nodes as far as they stand in /etc/pve. It knows nothing of users that other nodes have.
func (a *app) observeGuests(cfg *config.Config, m *config.Machine) {
	p := *m.Proxmox
	dir, own, maps := filepath.Join(p.Dir, "lxc"), map[string]string{}, []spec.IDMap{}
	for _, c := range cfg.Containers {
		own[c.ID] = filepath.Join(dir, c.ID)
	}
	there := a.guestFiles(dir)
	for id, text := range there {
		g := idrange.ParseGuest(id, text)
		if _, wanted := own[id]; !wanted && !g.Ours {
			m.IDs.Taken = append(m.IDs.Taken, mapsOf(g, text)...)
			continue
		}
		own[id] = filepath.Join(dir, id)
		maps = append(maps, idrange.Maps(text)...)
		// One that is being made has no range yet; a privileged one can only be replaced.
		if has := g.Has(); has != (spec.IDMap{}) && !a.there(provider.ProxmoxMaking(p, id)) {
			m.IDs.Have[id] = has
		}
	}
	a.observeClaims(m, own)
	a.observeRecords(m, own)
	for _, r := range maps { // of snapshots: a rollback brings them back
		if !withinAny(r, m.IDs.Have) && !withinAny(r, m.IDs.Kept) {
			m.IDs.Taken = append(m.IDs.Taken, r)
		}
	}
	nodes, _ := a.host.ReadDir(filepath.Join(p.Dir, "nodes")) // there may be none
	for _, node := range nodes {
		if node == provider.ProxmoxNode(a.host, p) {
			continue
		}
		for id, text := range a.guestFiles(filepath.Join(p.Dir, "nodes", node, "lxc")) {
			m.IDs.Taken = append(m.IDs.Taken, mapsOf(idrange.ParseGuest(id, text), text)...)
		}
	}
	names, _ := a.host.ReadDir(p.State) // there may be none
	for _, id := range names {
		if _, proxmox := there[id]; !proxmox && own[id] == "" {
			a.takenBy(m, filepath.Join(p.State, id, "config"))
		}
	}
	a.observeRunning(m, own)
}

// guestFiles are the files of Proxmox's containers in a directory, by id.
func (a *app) guestFiles(dir string) map[string]string {
	out := map[string]string{}
	names, _ := a.host.ReadDir(dir) // a node without containers may have none
	for _, name := range names {
		id, isConfig := strings.CutSuffix(name, ".conf")
		if !isConfig {
			continue
		}
		if raw, err := a.host.ReadFile(filepath.Join(dir, name)); err == nil {
			out[id] = string(raw)
		}
	}
	return out
}

// mapsOf are the ranges of another's container, those of its snapshots and the one that it is being moved to among
// them.
func mapsOf(g idrange.Guest, text string) []spec.IDMap {
	out := idrange.Maps(text)
	if g.IsMoving() {
		out = append(out, g.Moving.To)
	}
	return slices.DeleteFunc(out, func(r spec.IDMap) bool { return r == idrange.Shared })
}

// observeRecords looks whose ids the volumes have that wait for a container, where no link says it.
func (a *app) observeRecords(m *config.Machine, own map[string]string) {
	for id := range own {
		_, have := m.IDs.Have[id]
		_, kept := m.IDs.Kept[id]
		if have || kept {
			continue
		}
		dir := filepath.Join(m.Root, "volumes", id)
		names, _ := a.host.ReadDir(dir) // nothing waits
		for _, name := range names {
			raw, err := a.host.ReadFile(filepath.Join(dir, name))
			f := strings.Fields(string(raw))
			if err != nil || len(f) < 4 || f[0] != "phoenix:" || !strings.HasPrefix(f[1], spec.KindVolume+"/"+id+"/") {
				continue
			}
			meta, err := a.host.Lstat(f[3])
			r := spec.IDMap{Base: meta.UID / idrange.Size * idrange.Size, Count: idrange.Size}
			if err == nil && meta.Mode.IsDir() && idrange.Slot(m.IDs.Block, r) {
				m.IDs.Kept[id] = r
			}
		}
	}
}
