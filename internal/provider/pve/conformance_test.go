package pve_test

import (
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pve"
)

// damage edits 103's file.
func damage(n **node, old, new string) func(*testing.T, host.Host, object.Object) {
	return func(t *testing.T, _ host.Host, _ object.Object) {
		text := (*n).conf("103")
		if !strings.Contains(text, old) {
			t.Fatalf("no %q in\n%s", old, text)
		}
		(*n).write(strings.Replace(text, old, new, 1), "pve/lxc/103.conf")
	}
}

// tree is all that the fake Proxmox keeps, but for the list of calls.
func tree(n **node) func(*testing.T, object.Object) string {
	return func(t *testing.T, _ object.Object) string {
		return conformance.Tree(t, (*n).path("pve")) + conformance.Tree(t, (*n).path("zfs")) +
			conformance.Tree(t, (*n).path("root"))
	}
}

func TestContainerConformance(t *testing.T) {
	for name, from := range map[string]func(*node, *spec.Guest){
		"created": func(*node, *spec.Guest) {},
		"cloned": func(n *node, g *spec.Guest) {
			n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2", "--net0",
				"name=eth0,bridge=vmbr9", "--onboot", "1")
			n.tool("pct", "snapshot", "900", "ready")
			g.Archive, g.CloneFrom, g.Snapshot = "", "900", "ready"
		},
	} {
		t.Run(name, func(t *testing.T) {
			var n *node
			conformance.Run(t, conformance.Case{
				Driver: pve.NewContainer(), Volatile: []string{"config", "volumes"}, State: tree(&n),
				Tools: []string{"pct"},
				Foreign: func(*testing.T, host.Host, object.Object) {
					n.tool("pct", "create", "103", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2",
						"--hostname", "somebody")
				},
				Fresh: func(t *testing.T) (host.Host, object.Object) {
					n = newNode(t)
					s := n.container()
					from(n, s.Guest)
					if name == "cloned" { // and moved: the template's range is not its own
						s.IDMap, s.Guest.Volumes[0].IDMap = ownMap, ownMap
					}
					return n.host, n.containerObject(s)
				},
				Break: map[string]func(*testing.T, host.Host, object.Object){
					"a changed key":     damage(&n, "memory: 1024", "memory: 64"),
					"a raw option":      damage(&n, "lxc.tty.max: 4\n", "lxc.cap.keep: sys_admin\n"),
					"another network":   damage(&n, "bridge=vmbr0", "bridge=vmbr7,rate=5"),
					"a lost feature":    damage(&n, "features: nesting=1\n", ""),
					"no backup":         damage(&n, "backup=1,", ""),
					"a lost autostart":  damage(&n, "onboot: 1\n", "onboot: 0\n"),
					"another's startup": damage(&n, "startup: order=1,up=5", "startup: down=9,order=7"),
				},
			})
		})
	}
}

func TestVolumeConformance(t *testing.T) {
	var n *node
	conformance.Run(t, conformance.Case{
		Driver: pve.NewVolume(), Volatile: []string{"path"}, State: tree(&n), Tools: []string{"pct", "pvesm"},
		Fields: []string{"uid", "gid", "mode", "recorded"},
		Not: map[string]string{"foreign": "it is matched by the path it is mounted at, in a container that " +
			"container/ID knows as phoenix's"},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			n = newNode(t)
			s := n.container()
			s.Guest.Volumes = nil
			n.containerThing(s).make()
			return n.host, n.volumeThing(n.ssl()).o
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"an open mode": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.Chmod(n.path("zfs/subvol-103-disk-1"), 0o755))
			},
			"another owner": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.Chown(n.path("zfs/subvol-103-disk-1"), 0, 0))
			},
			"a lost note": damage(&n, "#phoenix%3A volume/103/ssl ", "#a person "),
			"a detached volume": func(*testing.T, host.Host, object.Object) {
				n.tool("pct", "set", "103", "--delete", "mp0")
			},
		},
	})
}

func TestRunningConformance(t *testing.T) {
	var n *node
	conformance.Run(t, conformance.Case{
		Driver: pve.NewRunning(), Volatile: []string{"pid"}, State: tree(&n), Tools: []string{"pct", "lxc-info"},
		Not: map[string]string{"foreign": "what runs is known by its definition, which container/ID refuses"},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			n = newNode(t)
			n.house()
			return n.host, n.runningThing().o
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a stopped container": func(*testing.T, host.Host, object.Object) { n.tool("pct", "stop", "103") },
			"waiting changes": func(*testing.T, host.Host, object.Object) {
				n.tool("pct", "set", "103", "--features", "nesting=1,keyctl=1")
			},
		},
	})
}

func TestSnapshotConformance(t *testing.T) {
	var n *node
	conformance.Run(t, conformance.Case{
		Driver: pve.NewSnapshot(), State: tree(&n), Tools: []string{"pct"},
		Not: map[string]string{"foreign": "one of its name is the one that is wanted, whoever took it"},
		Break: map[string]conformance.Damage{
			"a lost snapshot": func(*testing.T, host.Host, object.Object) {
				n.tool("pct", "delsnapshot", "103", "final-form")
			},
		},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			n = newNode(t)
			n.house()
			return n.host, asObject(t, spec.KindSnapshot, "103/final-form",
				spec.Snapshot{ID: "103", Name: "final-form", About: "by hand", Proxmox: n.place()})
		},
	})
}

func (n *node) template() spec.Template {
	s := n.container()
	s.ID, s.Name, s.Guest.Volumes, s.Options = "900", "base", nil, nil
	return spec.Template{ID: "900", Snapshot: "ready", Definition: &s}
}

func TestTemplateConformance(t *testing.T) {
	var n *node
	conformance.Run(t, conformance.Case{
		Driver: pve.NewTemplate(), State: tree(&n), Tools: []string{"pct"},
		Foreign: func(*testing.T, host.Host, object.Object) {
			n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2", "--hostname",
				"somebody")
		},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			n = newNode(t)
			return n.host, asObject(t, spec.KindTemplate, "900", n.template())
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a lost snapshot": func(*testing.T, host.Host, object.Object) {
				n.tool("pct", "delsnapshot", "900", "ready")
			},
			"a lost template": func(*testing.T, host.Host, object.Object) { n.tool("pct", "destroy", "900") },
			"a lock that a killed clone left": func(*testing.T, host.Host, object.Object) {
				n.write(strings.Replace(n.conf("900"), "hostname:", "lock: disk\nhostname:", 1), "pve/lxc/900.conf")
			},
		},
	})
}
