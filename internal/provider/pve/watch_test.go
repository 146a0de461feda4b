package pve_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pve"
)

// reads writes down which files of Proxmox's are looked at.
type reads struct {
	host.Host
	below string
	paths []string
}

func (r *reads) note(path string) {
	if rel, err := filepath.Rel(r.below, path); err == nil && !strings.HasPrefix(rel, "..") &&
		!slices.Contains(r.paths, rel) {
		r.paths = append(r.paths, rel)
	}
}

func (r *reads) ReadFile(path string) ([]byte, error) { r.note(path); return r.Host.ReadFile(path) }
func (r *reads) Lstat(path string) (host.Meta, error) { r.note(path); return r.Host.Lstat(path) }

// watched are the objects that read what Proxmox has of guests.
func (n *node) watched() []thing {
	p := n.place()
	ids := spec.IDRange{ID: "103", IDMap: ownMap, Path: n.path("root/lxc"), Claims: n.path("root/claims"),
		Records: n.path("root/volumes/103"), Proxmox: &p}
	return []thing{n.containerThing(n.container()), n.volumeThing(n.ssl()), n.runningThing(),
		{n, pve.NewIDs(), asObject(n.t, spec.KindIDs, "103", ids)},
		{n, newSnapshot(), asObject(n.t, spec.KindSnapshot, "103/one",
			spec.Snapshot{ID: "103", Name: "one", Proxmox: p})},
		{n, newTemplate(), asObject(n.t, spec.KindTemplate, "900", n.template())},
		{n, pve.NewFirewall(), asObject(n.t, spec.KindFirewall, "103", spec.Firewall{ID: "103", Address: "10.0.0.10",
			Proxmox: &p})}}
}

// What an object is found out by in /etc/pve is what it is watched by, wherever the guest is: else a failure that
// others end is left alone for as long as one that nobody ends. Other nodes' changes are only seen by polling.
func TestWhatIsReadIsWatched(t *testing.T) {
	const here = "phoenix/" // what phoenix itself writes beside them
	for where, put := range map[string]func(*node){
		"here":     func(*node) {},
		"stopped":  func(n *node) { n.tool("pct", "stop", "103") },
		"absent":   func(n *node) { n.tool("pct", "destroy", "103", "--force", "1") },
		"not ours": func(n *node) { n.tool("pct", "set", "103", "--description", "mine") },
		"elsewhere": func(n *node) {
			n.write(`{"ids":{"103":{"node":"pve2","type":"lxc"},"900":{"node":"pve2","type":"lxc"}}}`, "pve/.vmlist")
			n.tool("pct", "stop", "103")
			must(n.t, n.host.Rename(n.path("pve/lxc/103.conf"), n.path("pve/nodes/pve2/lxc/103.conf")))
		},
		"a virtual machine": func(n *node) {
			n.tool("pct", "destroy", "103", "--force", "1")
			n.write(`{"ids":{"103":{"node":"pve","type":"qemu"},"900":{"node":"pve","type":"qemu"}}}`, "pve/.vmlist")
		},
		"without pmxcfs": func(n *node) { must(n.t, n.host.Rename(n.path("pve"), n.path("away"))) },
	} {
		t.Run(where, func(t *testing.T) {
			n := newNode(t)
			n.up()
			put(n)
			for _, x := range n.watched() {
				r := &reads{Host: n.host, below: n.path("pve")}
				obs, _ := x.d.Observe(context.Background(), r, x.o) // it may fail: that is why it is watched
				if len(r.paths) == 0 {
					t.Errorf("%s: nothing was read", x.o.Address)
				}
				for _, path := range r.paths {
					if !strings.HasPrefix(path, here) && !rests(obs.Watch, n.path("pve", path)) {
						t.Errorf("%s: %s is read, and not watched: %+v", x.o.Address, path, obs.Watch)
					}
				}
			}
		})
	}
}

// rests tells whether a change of the file is seen, whichever node makes it.
func rests(w provider.Watch, path string) bool {
	polled := func(part string) bool {
		return slices.ContainsFunc(w.Polls, func(p provider.Poll) bool {
			return p.Path == path && strings.HasSuffix(p.Part, part)
		})
	}
	if filepath.Base(path) == ".vmlist" {
		return polled("/node") && polled("/type")
	}
	return polled("") || slices.Contains(w.Paths, path)
}
