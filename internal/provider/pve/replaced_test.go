package pve_test

import (
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

const (
	usersFile = "user:root@pam:1:0::::::\npool:kitchen:a comment:100,103:local-zfs:\npool:other::101::\n" +
		"acl:1:/vms/101:ann@pve:PVEVMUser:\n"
	rightOn103 = "acl:1:/vms/103:bob@pve:PVEVMAdmin:\n"
)

// People's own are tags, notes, keys and parts of keys that phoenix does not speak of, a directory that they mounted,
// the pool and rules of the firewall.
func (n *node) peoplesOwn() {
	n.t.Helper()
	n.write(usersFile+rightOn103, "pve/user.cfg")
	must(n.t, os.MkdirAll(n.path("photos"), 0o755))
	c := n.conf("103")
	for old, with := range map[string]string{
		"ip=10.0.0.10/24": "ip=10.0.0.10/24,rate=7",
		"backup=1":        "backup=1,mountoptions=noatime",
		"order=1,up=5":    "order=1,up=5,down=30",
		"hostname: ":      "cpuunits: 50\nhostname: ",
		"net0: ":          "mp7: " + n.path("photos") + ",mp=/photos\nnet0: ",
		"unprivileged: ":  "tags: blue;home\ntimezone: host\nunprivileged: ",
	} {
		if !strings.Contains(c, old) {
			n.t.Fatalf("no %q in\n%s", old, c)
		}
		c = strings.Replace(c, old, with, 1)
	}
	n.write("#ask Ann before a restart%3A 555\n"+c, "pve/lxc/103.conf")
	n.write("[OPTIONS]\n\nenable: 1\n\n[RULES]\n\nIN ACCEPT -source 10.0.0.9 -p tcp -dport 22 # of Ann\n",
		"pve/firewall/103.fw")
}

// keepsPeoplesOwn tells what a container that was made again lacks.
func (n *node) keepsPeoplesOwn() {
	n.t.Helper()
	c := n.conf("103")
	for _, want := range []string{"#ask Ann before a restart%3A 555\n", "tags: blue;home\n", "timezone: host\n",
		"cpuunits: 50\n", ",rate=7,", "mountoptions=noatime", n.path("photos") + ",mp=/photos\n", "down=30"} {
		if strings.Count(c, want) != 1 {
			n.t.Errorf("%q is %d times in\n%s", want, strings.Count(c, want), c)
		}
	}
	if got := n.read("pve/user.cfg"); got != usersFile && got != strings.Replace(usersFile, "100,103", "103,100", 1) {
		n.t.Errorf("user.cfg:\n%s", got)
	}
	if got := n.read("pve/firewall/103.fw"); !strings.Contains(got, "# of Ann") {
		n.t.Errorf("103.fw:\n%s", got)
	}
	if _, err := os.Stat(n.path("pve/phoenix/replaced/103")); !os.IsNotExist(err) {
		n.t.Errorf("the record of what it had is left: %v", err)
	}
}

// privileged is 103 as it is to be made again.
func (n *node) privileged() spec.Container {
	s := n.container()
	s.IDMap, s.Guest.Volumes[0].IDMap = spec.IDMap{}, spec.IDMap{}
	return s
}

// A container that is made again keeps what people gave it; what cannot be kept is said before.
func TestMadeAgainWithWhatPeopleGaveIt(t *testing.T) {
	for name, from := range map[string]func(*node, *spec.Guest){
		"created": func(*node, *spec.Guest) {},
		"cloned": func(n *node, g *spec.Guest) {
			n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2", "--net0",
				"name=eth0,bridge=vmbr9", "--unprivileged", "0", "--tags", "template")
			g.Archive, g.CloneFrom = "", "900"
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.up()
			n.tool("pct", "snapshot", "103", "monday")
			n.peoplesOwn()
			s := n.privileged()
			from(n, s.Guest)
			x := n.containerThing(s)
			d := x.delta()
			for _, want := range []string{"tags, pool",
				"lost are its snapshots monday and permissions of bob@pve (PVEVMAdmin)"} {
				if d.Action != plan.Replace || !strings.Contains(d.Reason, want) {
					t.Errorf("no %q: %+v", want, d)
				}
			}
			x.make()
			n.keepsPeoplesOwn()
			n.forgetCalls()
			x.make()
			if calls := n.calls("pct"); len(calls) > 0 {
				t.Errorf("again: %q", calls)
			}
		})
	}
}

// Nothing of it is lost by a phoenix that is killed on the way.
func TestKilledWhileItIsMadeAgain(t *testing.T) {
	for at := 1; ; at += 2 {
		n := newNode(t)
		n.house()
		n.peoplesOwn()
		x := n.containerThing(n.privileged())
		killed := &host.Faulty{Host: n.host, At: at, Applied: at%4 == 1}
		err := x.d.Apply(t.Context(), killed, x.o, x.delta())
		if killed.Seen() < at {
			if must(t, err); at < 10 {
				t.Errorf("it took less than %d changes", at)
			}
			return
		}
		x.make()
		n.keepsPeoplesOwn()
		if n.end(); t.Failed() {
			t.Fatalf("killed at change %d: %v", at, err)
		}
	}
}

// What was written down for a container that is deleted by name is not given to the next one.
func TestDeletedByNameKeepsNothing(t *testing.T) {
	n := newNode(t)
	n.house()
	n.peoplesOwn()
	x := n.containerThing(n.container())
	must(t, x.d.Delete(t.Context(), n.host, x.o))
	x.make()
	if c := n.conf("103"); strings.Contains(c, "tags") {
		t.Errorf("%s", c)
	}
}
