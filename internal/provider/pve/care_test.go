package pve_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// A create that is told to stop takes everything back; a killed one leaves a lock, and is repaired.
func TestKilledCreate(t *testing.T) {
	n := newNode(t)
	n.write("", "slow-create")
	x := n.containerThing(n.container())
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := x.d.Apply(ctx, n.host, x.o, plan.Delta{Action: plan.Create}); err == nil {
		t.Fatal("it was not stopped")
	}
	if _, err := os.Stat(n.path("pve/lxc/103.conf")); err == nil || len(n.volumes("zfs")) > 0 {
		t.Errorf("left behind: %v, %q", err, n.volumes("zfs"))
	}
	must(t, os.Remove(n.path("slow-create")))
	n.write("lock: create\n", "pve/lxc/103.conf")
	must(t, os.MkdirAll(n.path("zfs/subvol-103-disk-0"), 0o755))
	if d := x.delta(); d.Action != plan.Create || !strings.Contains(d.Reason, "half made") {
		t.Errorf("%+v", d)
	}
	x.make()
	if got := n.volumes("zfs"); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// While pct is at work the lock is its own.
func TestACreateUnderWayIsLeftAlone(t *testing.T) {
	n := newNode(t)
	n.write("", "slow-create")
	other := startTool(t, "pct", "create", "103", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:1")
	for range 200 {
		if _, err := os.Stat(n.path("pve/lxc/103.conf")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	wants(t, n.containerThing(n.container()).try(), false, "is being made by process", "wait for its end")
	must(t, other.Process.Signal(syscall.SIGTERM))
	_ = other.Wait() // it was told to stop
}

// A killed copy leaves its lock on the source. One that is phoenix's is unlocked, unless something is at work on it.
func TestALockThatAKilledCloneLeft(t *testing.T) {
	n := newNode(t)
	n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2", "--lock", "disk")
	s := n.container()
	s.Guest.Archive, s.Guest.CloneFrom = "", "900"
	x := n.containerThing(s)
	wants(t, x.try(), false, "container 900 is locked (disk)", "its disks are copied")
	n.tool("pct", "set", "900", "--lock", "disk", "--description", "phoenix: container/900")
	n.write("", "slow-clone")
	other := startTool(t, "sh", "-c", "sleep 60 # pct move-volume 900")
	wants(t, x.try(), false, "locked (disk)")
	must(t, other.Process.Kill())
	_ = other.Wait() // killed
	must(t, os.Remove(n.path("slow-clone")))
	x.make()
	if c := n.read("pve/lxc/900.conf"); strings.Contains(c, "lock") {
		t.Errorf("%s", c)
	}
}

// A process in a container is not the hypervisor's, whatever it calls itself.
func TestProcessesInContainersAreNotAsked(t *testing.T) {
	n := newNode(t)
	other := exec.Command("sh", "-c", "sleep 60 # pct create 103 x")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	must(t, other.Start())
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait() // killed
	}()
	n.write("lock: create\n", "pve/lxc/103.conf")
	n.containerThing(n.container()).make()
}

// What waits for its container survives the repair of a half made one.
func TestRepairKeepsWaitingVolumes(t *testing.T) {
	n := newNode(t)
	n.house()
	own := volumeOf(n, "mp0")
	x := n.containerThing(n.container())
	must(t, x.d.Delete(context.Background(), n.host, x.o))
	if got := n.volumes("zfs"); len(got) != 1 || "local-zfs:"+got[0] != own {
		t.Fatalf("kept %q, want %s", got, own)
	}
	n.write("lock: create\n", "pve/lxc/103.conf")
	x.make()
	if got := volumeOf(n, "mp0"); got != own {
		t.Errorf("mounted is %s, want %s", got, own)
	}
}

func TestDeleteKeepsVolumesAndFreesThem(t *testing.T) {
	n := newNode(t)
	n.up()
	n.tool("pct", "snapshot", "103", "one")
	n.tool("pct", "snapshot", "103", "two")
	x, v := n.containerThing(n.container()), n.volumeThing(n.ssl())
	ctx := context.Background()
	must(t, x.d.Delete(ctx, n.host, x.o))
	if got := n.volumes("zfs"); len(got) != 1 {
		t.Fatalf("kept %q", got)
	}
	must(t, x.d.Delete(ctx, n.host, x.o)) // twice is no error
	must(t, v.d.Delete(ctx, n.host, v.o))
	must(t, v.d.Delete(ctx, n.host, v.o))
	if got := n.volumes("zfs"); len(got) != 0 {
		t.Errorf("left %q", got)
	}
	if _, err := os.Stat(n.path("root/volumes/103")); !os.IsNotExist(err) {
		t.Errorf("the note is left: %v", err)
	}
	n.house()
	must(t, v.d.Delete(ctx, n.host, v.o))
	if c := n.conf("103"); len(n.volumes("zfs")) != 1 || strings.Contains(c, "unused") {
		t.Errorf("%q\n%s", n.volumes("zfs"), c)
	}
	must(t, x.d.Delete(ctx, n.host, x.o))
	if got := n.volumes("zfs"); len(got) != 0 {
		t.Errorf("left %q", got)
	}
}

// A killed delete keeps the volume wherever it was killed.
func TestKilledDelete(t *testing.T) {
	for at := 1; at <= 5; at++ {
		n := newNode(t)
		n.up()
		own := volumeOf(n, "mp0")
		x := n.containerThing(n.container())
		err := x.d.Delete(context.Background(), &host.Faulty{Host: n.host, At: at, Applied: at%2 == 0}, x.o)
		t.Logf("change %d: %v", at, err)
		x.make()
		n.volumeThing(n.ssl()).make()
		if got := volumeOf(n, "mp0"); got != own {
			t.Errorf("change %d: mounted is %s, want %s", at, got, own)
		}
	}
}

// Three clones of one source at once: it is locked for each of them, so they come one after the other.
func TestClonesOfOneSourceAreSerial(t *testing.T) {
	n := newNode(t)
	n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2")
	errs := make(chan error, 3)
	for _, id := range []string{"201", "202", "203"} {
		s := n.container()
		s.ID, s.Guest.Archive, s.Guest.CloneFrom, s.Guest.Volumes = id, "", "900", nil
		x := n.containerThing(s)
		go func() { errs <- x.d.Apply(context.Background(), n.host, x.o, plan.Delta{Action: plan.Create}) }()
	}
	for range 3 {
		must(t, <-errs)
	}
}

// What needs a restart is seen, and done only with consent, which is the engine's to ask for.
func TestChangesThatWaitForARestart(t *testing.T) {
	n := newNode(t)
	n.up()
	if d := n.runningThing().delta(); !d.Empty() {
		t.Fatalf("%+v", d)
	}
	s := n.container()
	s.Guest.Features, s.Nameservers = []string{"nesting=1", "keyctl=1"}, []string{"10.0.0.1"}
	s.Options = []spec.Option{{Key: "lxc.tty.max", Value: "6"}}
	n.containerThing(s).make() // it is as asked for, from the next restart on
	d := n.runningThing().delta()
	if d.Reason != "needs restart: features, lxc.tty.max, nameserver" || !d.Interrupts {
		t.Errorf("%+v", d)
	}
	n.tool("pct", "set", "103", "--timezone", "UTC") // a person's own
	if again := n.runningThing().delta(); again.Reason != d.Reason {
		t.Errorf("%+v", again)
	}
	n.runningThing().make()
	if c := n.conf("103"); !strings.Contains(c, "keyctl=1") || strings.Contains(c, "pending") {
		t.Errorf("%s", c)
	}
}

// A container of another node is named with the node, and a virtual machine as one.
func TestContainersOfOtherNodes(t *testing.T) {
	n := newNode(t)
	n.write(`{"version": 7, "ids": {"103": {"node": "pve2", "type": "lxc", "version": 3}, "104": {"node": "pve2", "type": "qemu", "version": 4}}}`, "pve/.vmlist")
	n.write("hostname: theirs\n", "pve/nodes/pve2/lxc/103.conf")
	s := n.container()
	x := n.containerThing(s)
	_, err := x.observe()
	wants(t, err, true, "container 103 is on node pve2, and this is pve: it was not touched", "pct migrate 103 pve")
	wants(t, x.d.Apply(context.Background(), n.host, x.o, plan.Delta{Action: plan.Create}), true, "node pve2")
	wants(t, x.d.Delete(context.Background(), n.host, x.o), true, "node pve2")
	_, err = n.volumeThing(n.ssl()).observe()
	wants(t, err, true, "node pve2")
	_, err = n.runningThing().observe()
	wants(t, err, true, "node pve2")
	s.ID = "104"
	_, err = n.containerThing(s).observe()
	wants(t, err, true, "104 is a virtual machine on node pve2")
	if calls := n.calls("pct"); len(calls) > 0 {
		t.Errorf("%q", calls)
	}
}

// With pmxcfs away every container would seem to be gone, and would be made again.
func TestConfigurationThatIsAway(t *testing.T) {
	n := newNode(t)
	must(t, os.Remove(n.path("pve/lxc")))
	must(t, os.Remove(n.path("pve/local")))
	_, err := n.containerThing(n.container()).observe()
	wants(t, err, true, "proxmox's configuration is not at", "systemctl status pve-cluster")
}

func TestAnothersContainerIsRefused(t *testing.T) {
	n := newNode(t)
	n.tool("pct", "create", "103", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:1")
	before := n.conf("103")
	x := n.containerThing(n.container())
	_, err := x.observe()
	wants(t, err, true, "container 103 was not made by phoenix", `add the line "phoenix: container/103" to its notes`)
	wants(t, x.d.Delete(context.Background(), n.host, x.o), true, "not made by phoenix")
	n.tool("pct", "set", "103", "--description", "ours\nphoenix: container/103")
	if d := x.delta(); d.Empty() || d.Action != plan.Update {
		t.Errorf("handed over: %+v", d)
	}
	x.make()
	if c := n.conf("103"); !strings.HasPrefix(c, "#ours\n") || before == c {
		t.Errorf("%s", c)
	}
}

// Without an archive a Debian is built, once, with what Proxmox writes the network's configuration for.
func TestTemplateThatIsBuilt(t *testing.T) {
	n := newNode(t)
	n.write("#!/bin/sh\necho \"$@\" >>"+n.path("built")+"\nfor a; do case $a in *.tmp) echo an archive >\"$a\";; "+
		"esac; done\n", "bin/mmdebstrap")
	must(t, os.Chmod(n.path("bin/mmdebstrap"), 0o755))
	s := n.template()
	s.Definition.Guest.Archive = ""
	s.Suite, s.Dir, s.Cache, s.Packages = "bookworm", n.path("root/templates"), n.path("cache"), []string{"nginx-light"}
	x := thing{n, newTemplate(), asObject(t, spec.KindTemplate, "900", s)}
	must(t, x.try())
	if d := x.delta(); !d.Empty() {
		t.Fatalf("%+v", d)
	}
	if built := n.read("built"); !strings.Contains(built, "ifupdown") || !strings.Contains(built, "nginx-light") ||
		!strings.Contains(built, "bookworm") {
		t.Errorf("%s", built)
	}
	if calls := n.calls("pct create 900 " + n.path("cache") + "/"); len(calls) != 1 {
		t.Errorf("%q", n.calls("pct create"))
	}
	n.tool("pct", "delsnapshot", "900", "ready")
	n.tool("pct", "destroy", "900")
	must(t, x.try())
	if built := n.read("built"); strings.Count(built, "ifupdown") != 1 {
		t.Errorf("built again: %s", built)
	}
	s.Suite = "--bad"
	if !x.d.Decode(asObject(t, spec.KindTemplate, "900", s).Spec).HasErrors() {
		t.Error("an option was taken for a suite")
	}
}

// Whether a container is unprivileged is chosen when it is made: another wish makes it anew, with its volumes, and asks
// for consent.
func TestMadeAnewForItsIDMap(t *testing.T) {
	n := newNode(t)
	n.up()
	own := volumeOf(n, "mp0")
	s := n.container()
	s.IDMap, s.Guest.Volumes[0].IDMap = spec.IDMap{}, spec.IDMap{}
	x := n.containerThing(s)
	if d := x.delta(); d.Action != plan.Replace || !d.Has("unprivileged") {
		t.Fatalf("%+v", d)
	}
	x.make()
	v := n.volumeThing(s.Guest.Volumes[0])
	v.make()
	if c := n.conf("103"); volumeOf(n, "mp0") != own || strings.Contains(c, "unprivileged: 1") {
		t.Errorf("%s", c)
	}
	m, err := n.host.Lstat(n.path("zfs", strings.TrimPrefix(own, "local-zfs:")))
	if err != nil || m.UID != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

// Waiting for Proxmox's lock is told on standard error, and is no failure.
func TestWaitingForALockIsNoFailure(t *testing.T) {
	n := newNode(t)
	n.house()
	s := n.container()
	s.Guest.SizeGB = 5
	n.fault("resize", 0, "trying to acquire lock...\n OK", "apply")
	n.containerThing(s).make()
}

// A clone has its source's network until it is given its own, and nothing of it is left.
func TestCloneHasItsOwnNetwork(t *testing.T) {
	n := newNode(t)
	n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2", "--net0",
		"name=eth0,bridge=vmbr9,ip=10.9.9.9/24,gw=10.9.9.1,rate=3",
		"--dev0", "/dev/nvidia7", "--dev1", "/dev/net/tun")
	s := n.container()
	s.Guest.Archive, s.Guest.CloneFrom, s.Interface.Gateway, s.Guest.Firewall, s.Guest.Devices = "", "900", "", true,
		[]string{"/dev/nvidia0"}
	n.containerThing(s).make()
	c := n.conf("103")
	if !strings.Contains(c,
		"net0: name=eth0,bridge=vmbr0,firewall=1,hwaddr=52:54:00:AA:BB:CA,ip=10.0.0.10/24,rate=3,type=veth\n") {
		t.Errorf("%s", c)
	}
	if strings.Contains(c, "nvidia7") || !strings.Contains(c, "/dev/nvidia0") || !strings.Contains(c, "/dev/net/tun") {
		t.Errorf("%s", c)
	}
	mtu, tag, none := 1400, 20, 0
	for want, set := range map[string][2]*int{",mtu=1400,rate=3,tag=20,": {&mtu, &tag}, ",rate=3,type": {&none, &none}} {
		s.Interface.Address6, s.Interface.Gateway6 = "2001:db8::10/64", "fe80::1"
		for _, again := range []string{"set", "kept"} {
			s.Interface.MTU, s.Interface.Tag = set[0], set[1]
			n.containerThing(s).make()
			if c := n.conf("103"); !strings.Contains(c, want) ||
				!strings.Contains(c, ",gw6=fe80::1,hwaddr=52:54:00:AA:BB:CA,ip=10.0.0.10/24,ip6=2001:db8::10/64,") {
				t.Errorf("%s: no %s in %s", again, want, c)
			}
			s.Interface.MTU, s.Interface.Tag = nil, nil // nothing is said: it stays
		}
	}
	s.Guest.Devices = nil
	n.containerThing(s).make()
	if c := n.conf("103"); strings.Contains(c, "nvidia") || !strings.Contains(c, "/dev/net/tun") {
		t.Errorf("%s", c)
	}
}

// Warnings on standard error are no failure where the call ends well.
func TestWarningsAreNoFailure(t *testing.T) {
	n := newNode(t)
	n.fault("create", 0, "Task finished with 1 warning(s)!", "apply")
	n.house()
	n.fault("start", 0, "Task finished with 2 warning(s)!", "apply")
	n.runningThing().make()
}

// Proxmox 8 and 9 differ in what a container is where nothing is said: it is always said.
func TestUnprivilegedIsAlwaysSaid(t *testing.T) {
	for want, ids := range map[string]spec.IDMap{"--unprivileged 1": idMap, "--unprivileged 0": {}} {
		n := newNode(t)
		s := n.container()
		s.IDMap, s.Guest.Volumes = ids, nil
		n.containerThing(s).make()
		if calls := n.calls("pct create"); len(calls) != 1 || !strings.Contains(calls[0], want) {
			t.Errorf("no %q in %q", want, calls)
		}
	}
}

// A look changes nothing, calls nothing of Proxmox's and works without quorum.
func TestLooksAreCheap(t *testing.T) {
	n := newNode(t)
	n.up()
	n.quorum(false)
	n.forgetCalls()
	for _, x := range []thing{n.containerThing(n.container()), n.volumeThing(n.ssl()), n.runningThing()} {
		if d := x.delta(); !d.Empty() {
			t.Errorf("%s: %+v", x.o.Address, d)
		}
	}
	if calls := append(n.calls("pct"), n.calls("pvesm")...); len(calls) > 0 {
		t.Errorf("%q", calls)
	}
}
