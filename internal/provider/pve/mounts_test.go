package pve_test

import (
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// A container that was started with the entry that phoenix wrote before is not restarted for the one with the mounts
// below it; and what a start would fail of is seen before the stop.
func TestBindsBringWhatIsMountedBelow(t *testing.T) {
	n := newNode(t)
	dir := n.path("media")
	must(t, os.MkdirAll(dir, 0o755))
	s := n.container()
	s.Guest.Binds = []spec.Mount{{Source: dir, Target: "/srv/media"}}
	n.containerThing(s).make()
	n.volumeThing(n.ssl()).make()
	n.write(strings.Replace(n.conf("103"), "rbind,rslave,create", "bind,create", 1), "pve/lxc/103.conf")
	n.runningThing().make()
	if d := n.containerThing(s).delta(); !d.Has("lxc") || d.Reason != "" {
		t.Errorf("asks for a restart: %+v", d)
	}
	n.containerThing(s).make()
	if d := n.runningThing().delta(); !d.Empty() || !strings.Contains(n.conf("103"), "rbind,rslave,create=dir") {
		t.Errorf("restarted for the entry: %+v\n%s", d, n.conf("103"))
	}
	s.Guest.Binds[0].ReadOnly = true
	n.containerThing(s).make()
	if d := n.runningThing().delta(); !d.Interrupts || !strings.Contains(n.conf("103"), "bind,ro,private,create=dir") {
		t.Errorf("read-only without a restart: %+v\n%s", d, n.conf("103"))
	}
	must(t, os.Remove(dir))
	wants(t, n.runningThing().try(), true, dir+", which is mounted in it, is not there")
	if calls := n.calls("pct shutdown"); len(calls) > 0 {
		t.Errorf("it was stopped: %q", calls)
	}
}

// Devices of the file are given to all of the container's users, and taken away with their line.
func TestListedDevices(t *testing.T) {
	n := newNode(t)
	s := n.container()
	s.Guest.Devices, s.Guest.Listed = []string{"/dev/net/tun", "/dev/fuse"}, true
	n.containerThing(s).make()
	c := n.conf("103")
	if !strings.Contains(c, "dev0: /dev/net/tun,mode=0666\n") || !strings.Contains(c, "dev1: /dev/fuse,mode=0666\n") {
		t.Errorf("%s", c)
	}
	s.Guest.Devices = s.Guest.Devices[1:]
	n.containerThing(s).make()
	if c := n.conf("103"); strings.Contains(c, "/dev/net/tun") || !strings.Contains(c, "/dev/fuse") {
		t.Errorf("%s", c)
	}
	s.Guest.Missing = []string{"/dev/kvm"}
	wants(t, n.containerThing(s).try(), true, "/dev/kvm, which is not on this machine")
}
