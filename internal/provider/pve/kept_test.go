package pve_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// data is a second volume of 103's.
func (n *node) data() spec.Volume {
	v := n.ssl()
	v.Name, v.Path, v.MountPoint = "data", n.path("root/volumes/103/data"), "/srv/data"
	return v
}

// withData is 103 with both volumes, made, and something on the second.
func (n *node) withData() spec.Container {
	n.t.Helper()
	s := n.container()
	s.Guest.Records = n.path("root/volumes/103")
	s.Guest.Volumes = append(s.Guest.Volumes, n.data())
	n.containerThing(s).make()
	n.volumeThing(n.ssl()).make()
	n.volumeThing(n.data()).make()
	must(n.t, os.WriteFile(filepath.Join(n.recordPath("data"), "photo"), []byte("the only one"), 0o600))
	return s
}

// recordPath is where the notes say that a volume is.
func (n *node) recordPath(name string) string {
	n.t.Helper()
	for l := range strings.Lines(n.conf("103")) {
		if f := strings.Fields(l); len(f) > 2 && strings.HasSuffix(f[1], "volume/103/"+name) {
			return f[3]
		}
	}
	n.t.Fatalf("no record of %s in\n%s", name, n.conf("103"))
	return ""
}

// A volume that the configuration does not name any more is kept, by a delete and when the container is made again, and
// comes back with the line.
func TestVolumesThatLeftTheConfigurationAreKept(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, thing){
		"delete": func(t *testing.T, x thing) { must(t, x.d.Delete(context.Background(), x.n.host, x.o)) },
		"replace": func(t *testing.T, x thing) {
			must(t, x.d.Apply(context.Background(), x.n.host, x.o, plan.Delta{Action: plan.Replace}))
		},
		"unused": func(t *testing.T, x thing) {
			x.n.tool("pct", "set", "103", "--delete", "mp1")
			must(t, x.d.Delete(context.Background(), x.n.host, x.o))
		},
		"snapshot": func(t *testing.T, x thing) {
			x.n.tool("pct", "snapshot", "103", "one")
			must(t, x.d.Delete(context.Background(), x.n.host, x.o))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			both := n.withData()
			less := both
			g := *both.Guest
			g.Volumes = g.Volumes[:1]
			less.Guest = &g
			photo := filepath.Join(n.recordPath("data"), "photo")
			lose(t, n.containerThing(less))
			if _, err := os.Stat(photo); err != nil {
				t.Fatalf("what is on the volume is lost: %v", err)
			}
			n.containerThing(less).make() // without it nothing is mounted, and nothing lost
			n.containerThing(both).make()
			n.volumeThing(n.data()).make()
			if got := filepath.Join(n.recordPath("data"), "photo"); got != photo {
				t.Errorf("another volume is mounted: %s, not %s", got, photo)
			}
		})
	}
}

// Volumes that somebody else added are named, and nothing is touched.
func TestVolumesOfOthersAreNotDestroyed(t *testing.T) {
	for name, add := range map[string]func(*node){
		"mounted": func(n *node) { n.tool("pct", "set", "103", "--mp5", "local-zfs:1,mp=/srv/mine") },
		"unused": func(n *node) {
			n.tool("pct", "set", "103", "--mp5", "local-zfs:1,mp=/srv/mine")
			n.tool("pct", "set", "103", "--delete", "mp5")
		},
		"in snapshot": func(n *node) {
			n.tool("pct", "set", "103", "--mp5", "local-zfs:1,mp=/srv/mine")
			n.tool("pct", "snapshot", "103", "one")
			n.write(strings.Replace(n.conf("103"), "mp5: ", "#mp5 ", 1), "pve/lxc/103.conf")
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.house()
			add(n)
			x, before, volumes := n.containerThing(n.container()), n.conf("103"), n.volumes("zfs")
			for what, err := range map[string]error{
				"delete":  x.d.Delete(context.Background(), n.host, x.o),
				"replace": x.d.Apply(context.Background(), n.host, x.o, plan.Delta{Action: plan.Replace}),
				"refuse":  provider.Refused(context.Background(), x.d, n.host, x.o),
			} {
				wants(t, err, true, "volumes that phoenix did not make", "local-zfs:subvol-103-disk-",
					"nothing was changed", "pct move-volume 103")
				if n.conf("103") != before || !slices.Equal(n.volumes("zfs"), volumes) {
					t.Errorf("%s touched it:\n%s\n%q", what, n.conf("103"), n.volumes("zfs"))
				}
			}
		})
	}
	n := newNode(t)
	n.house() // a directory of the hypervisor is not Proxmox's to destroy, nor is another container's volume
	n.write(n.conf("103")+"mp6: /tank/x,mp=/x\nmp7: local-zfs:subvol-104-disk-0,mp=/y\n", "pve/lxc/103.conf")
	must(t, os.MkdirAll(n.path("zfs/subvol-104-disk-0"), 0o755))
	x := n.containerThing(n.container())
	must(t, x.d.Delete(context.Background(), n.host, x.o))
	if _, err := os.Stat(n.path("zfs/subvol-104-disk-0")); err != nil {
		t.Error(err)
	}
}

// cloned is 103 as a clone of 900.
func (n *node) cloned() spec.Container {
	n.t.Helper()
	n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2", "--mp0",
		"local-zfs:1,mp=/x", "--memory", "512", "--net0",
		"name=eth0,bridge=vmbr0", "--description", "phoenix: container/900")
	s := n.container()
	s.Guest.Archive, s.Guest.CloneFrom, s.Guest.Records = "", "900", n.path("root/volumes/103")
	return s
}

// A clone that died with its worker leaves a whole configuration, locked, with some of the volumes: it is removed with
// what it copied, and made again. What had the id in its name before is left alone.
func TestKilledClone(t *testing.T) {
	for _, volumes := range []string{"", "rootfs: local-zfs:subvol-103-disk-1,size=2G\n",
		"mp0: local-zfs:subvol-103-disk-1,mp=/x,size=1G\n"} {
		n := newNode(t)
		s := n.cloned()
		old := n.path("zfs/subvol-103-disk-0") // somebody put it there
		must(t, os.MkdirAll(old, 0o755))
		must(t, os.WriteFile(filepath.Join(old, "photo"), nil, 0o600))
		n.write("local-zfs:subvol-103-disk-0\n", "pve/phoenix/making/103")
		n.write("#phoenix%3A container/103\narch: amd64\nhostname: step-ca\nlock: create\nmemory: 512\nnet0: "+
			"name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,type=veth\n"+
			"ostype: debian\nunprivileged: 1\n"+volumes, "pve/lxc/103.conf")
		must(t, os.MkdirAll(n.path("zfs/subvol-103-disk-1/etc"), 0o755))
		must(t, os.MkdirAll(n.path("zfs/subvol-103-disk-2/etc"), 0o755)) // copied, and not written down
		x := n.containerThing(s)
		if d := x.delta(); d.Action != plan.Create || !strings.Contains(d.Reason, "half made") {
			t.Fatalf("%+v", d)
		}
		x.make()
		// two of 900, rootfs, mp0, ssl, and the old one
		if got := n.volumes("zfs"); len(got) != 6 || !slices.Contains(got, "subvol-103-disk-0") {
			t.Errorf("%q: left are %q\n%s", volumes, got, n.conf("103"))
		}
		if _, err := os.Stat(filepath.Join(old, "photo")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(n.path("pve/phoenix/making/103")); !os.IsNotExist(err) {
			t.Errorf("the record of its making is left: %v", err)
		}
	}
}

// Whoever restores a container over itself locks it in the same way, with all of its volumes: nobody may take that for
// a half-made clone.
func TestARestoreIsNotTakenForAClone(t *testing.T) {
	n := newNode(t)
	n.house()
	n.write(strings.Replace(n.conf("103"), "hostname:", "lock: create\nhostname:", 1), "pve/lxc/103.conf")
	before, volumes := n.conf("103"), n.volumes("zfs")
	x := n.containerThing(n.container())
	if d := x.delta(); d.Action == plan.Create {
		t.Errorf("%+v", d)
	}
	err := x.d.Delete(context.Background(), n.host, x.o)
	wants(t, err, false, "locked (create)")
	if strings.Contains(provider.Hint(err), "unlock") {
		t.Errorf("unlocked it would be worse: %s", provider.Hint(err))
	}
	if n.conf("103") != before || !slices.Equal(n.volumes("zfs"), volumes) {
		t.Errorf("touched:\n%s", n.conf("103"))
	}
}

// A restore of a container over itself makes new volumes and destroys the old ones. An empty one in the place of a
// recorded one is not taken for it; one with something on it is.
func TestAnEmptyVolumeInThePlaceOfARecordedOne(t *testing.T) {
	for name, full := range map[string]bool{"empty": false, "moved": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.withData()
			old, now := n.recordPath("data"), n.path("zfs/subvol-103-disk-9")
			must(t, os.Mkdir(now, 0o755))
			if full {
				must(t, os.Rename(filepath.Join(old, "photo"), filepath.Join(now, "photo")))
			}
			must(t, os.RemoveAll(old))
			lines := strings.SplitAfter(n.conf("103"), "\n")
			for i, l := range lines {
				if strings.HasPrefix(l, "mp") && strings.Contains(l, "mp=/srv/data") {
					lines[i] = strings.Replace(l, filepath.Base(old), filepath.Base(now), 1)
				}
			}
			n.write(strings.Join(lines, ""), "pve/lxc/103.conf")
			before := n.conf("103")
			err := n.volumeThing(n.data()).try()
			if full {
				must(t, err)
				if n.recordPath("data") != now {
					t.Errorf("the notes speak of %s", n.recordPath("data"))
				}
				return
			}
			wants(t, err, true, filepath.Base(old), "is gone", filepath.Base(now), "not in the backup",
				"remove the line")
			if n.conf("103") != before {
				t.Errorf("changed:\n%s", n.conf("103"))
			}
		})
	}
}
