package pve_test

import (
	"context"
	"strings"
	"testing"
)

// Proxmox's high availability starts and stops later than pct returns; a container of its is not stopped for a delete
// that would be refused.
func TestHighAvailability(t *testing.T) {
	n := newNode(t)
	n.house()
	n.write("ct: 1030\n\tstate started\n\nct: 103\n\tstate started\n", "pve/ha/resources.cfg")
	x := n.runningThing()
	x.make()
	must(t, x.d.Stop(context.Background(), n.host, x.o))
	if d := x.delta(); d.Reason != "the container does not run" {
		t.Errorf("stopped: %+v", d)
	}
	x.make()
	pid := n.read("pids/103")
	n.forgetCalls()
	c := n.containerThing(n.container())
	wants(t, c.d.Delete(context.Background(), n.host, c.o), true, "high availability", "ha-manager remove ct:103")
	if calls := n.calls("pct"); len(calls) > 0 || n.read("pids/103") != pid {
		t.Errorf("%q", calls)
	}
}

// A protected container gets everything but what its protection is about, which is said.
func TestProtectedContainer(t *testing.T) {
	n := newNode(t)
	n.up()
	n.tool("pct", "set", "103", "--protection", "1")
	s := n.container()
	s.MemoryBytes = 2 << 30
	more := n.ssl()
	more.Name, more.MountPoint, more.Path = "data", "/srv/data", n.path("root/volumes/103/data")
	s.Guest.Volumes = append(s.Guest.Volumes, more)
	wants(t, n.containerThing(s).try(), true, "container 103 is protected", "pct set 103 --protection 0")
	if c := n.conf("103"); !strings.Contains(c, "memory: 2048\n") || strings.Contains(c, "/srv/data") {
		t.Errorf("%s", c)
	}
}
