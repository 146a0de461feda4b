package pve_test

import (
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// One value that Proxmox cannot plug in takes nothing else with it, and is named.
func TestOneFailedHotplug(t *testing.T) {
	n := newNode(t)
	n.up()
	n.write("mp1\n", "no-hotplug")
	s := n.container()
	s.MemoryBytes, s.Cores = 2<<30, 4
	more := n.ssl()
	more.Name, more.MountPoint, more.Path = "data", "/srv/data", n.path("root/volumes/103/data")
	s.Guest.Volumes = append(s.Guest.Volumes, more)
	s.Options = append(s.Options, spec.Option{Key: "lxc.cap.drop", Value: "sys_time"})
	wants(t, n.containerThing(s).try(), true, "unable to hotplug mp1")
	if c := n.conf("103"); !strings.Contains(c, "memory: 2048\n") || !strings.Contains(c, "cores: 4\n") ||
		!strings.Contains(c, "sys_time") || strings.Contains(c, "mp1: ") {
		t.Errorf("%s", c)
	}
	n.write("", "no-hotplug")
	n.containerThing(s).make()
}

// The first plan says what a running container needs a restart for, and of nothing else.
func TestThePlanSaysWhatNeedsARestart(t *testing.T) {
	n := newNode(t)
	n.house()
	s := n.container()
	s.MemoryBytes, s.Cores, s.PidsMax = 2<<30, 4, 999
	if d := n.containerThing(s).delta(); d.Empty() || d.Reason != "" {
		t.Errorf("at once: %+v", d)
	}
	s.Guest.Features = append(s.Guest.Features, "keyctl=1")
	s.Options = nil
	if d := n.containerThing(s).delta(); d.Reason != "a container that runs needs a restart for it: features, lxc" {
		t.Errorf("%+v", d)
	}
}

// Whether Proxmox backs a volume up is read by nothing but its backups: it takes no restart.
func TestBackupNeedsNoRestart(t *testing.T) {
	n := newNode(t)
	n.up()
	n.write(strings.Replace(n.conf("103"), ",backup=1", "", 1), "pve/lxc/103.conf")
	n.forgetCalls()
	n.containerThing(n.container()).make()
	if c := n.conf("103"); !strings.Contains(c, "backup=1") || strings.Contains(c, "pending") ||
		len(n.calls("pct")) > 0 {
		t.Errorf("%q\n%s", n.calls("pct"), c)
	}
	if d := n.runningThing().delta(); !d.Empty() {
		t.Errorf("%+v", d)
	}
}
