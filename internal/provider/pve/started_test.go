package pve_test

import (
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// What a running container was started with and its file does not say any more stays open until the restart, whoever
// took it out and whatever Proxmox wrote since: the plan says so and asks for consent.
func TestWhatIsTakenOutStaysUntilTheRestart(t *testing.T) {
	for name, byHand := range map[string]bool{"by phoenix": false, "by hand": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			s := n.container()
			s.Options = append(s.Options, spec.Option{Key: "lxc.apparmor.profile", Value: "unconfined"},
				spec.Option{Key: "lxc.cgroup2.devices.allow", Value: "c 10:200 rwm"})
			n.containerThing(s).make()
			n.volumeThing(n.ssl()).make()
			n.runningThing().make()
			if byHand {
				n.write(strings.Replace(n.conf("103"), "lxc.apparmor.profile: unconfined\nlxc.cgroup2.devices.allow: "+
					"c 10:200 rwm\n", "", 1), "pve/lxc/103.conf")
			} else {
				n.containerThing(n.container()).make()
			}
			const want = "needs restart: lxc.apparmor.profile, lxc.cgroup2.devices.allow"
			// which gives lxc what the file says by now
			for _, then := range [][]string{nil, {"pct", "set", "103", "--tags", "a"}} {
				if then != nil {
					n.tool(then...)
				}
				if d := n.runningThing().delta(); d.Reason != want || !d.Interrupts {
					t.Errorf("after %q: %+v", then, d)
				}
			}
			more := n.container()
			more.MemoryBytes *= 2
			n.containerThing(more).make()
			if d := n.runningThing().delta(); d.Reason != want {
				t.Errorf("after another change: %+v", d)
			}
			n.runningThing().make()
			if d := n.runningThing().delta(); !d.Empty() {
				t.Errorf("after the restart: %+v", d)
			}
		})
	}
}

// A directory of the hypervisor that a running container has mounted though its file does not say so is seen in the
// kernel, also where nobody wrote down what it was started with.
func TestAMountTooMuch(t *testing.T) {
	n := newNode(t)
	shared := n.path("shared")
	must(t, os.MkdirAll(shared, 0o755))
	s := n.container()
	s.Guest.Binds = []spec.Mount{{Source: shared, Target: "/srv/shared"}}
	n.containerThing(s).make()
	n.volumeThing(n.ssl()).make()
	n.runningThing().make()
	if d := n.runningThing().delta(); !d.Empty() {
		t.Fatalf("mounted as it should be: %+v", d)
	}
	n.containerThing(n.container()).make()
	must(t, os.RemoveAll(n.path("locks/lxc/phoenix-started-103")))
	n.tool("pct", "set", "103", "--tags", "a")
	d := n.runningThing().delta()
	if !d.Has("still mounted at /srv/shared") || !d.Interrupts || !strings.Contains(d.Reason, "needs restart") {
		t.Fatalf("%+v", d)
	}
	n.runningThing().make()
	if d := n.runningThing().delta(); !d.Empty() {
		t.Errorf("after the restart: %+v", d)
	}
}
