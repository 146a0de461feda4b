package pve_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Each text of Proxmox's, as the real one was seen to say it: our words come first, the tool's own below, and a failure
// is worth another try or not.
func TestWhatProxmoxSays(t *testing.T) {
	for name, tc := range map[string]struct {
		verb, says string
		words      []string
		permanent  bool
	}{
		"gone": {"set", "Configuration file 'nodes/pve/lxc/103.conf' does not exist",
			[]string{"container 103 is not on this node any more"}, false},
		"id taken": {"create", "CT 103 already exists on node 'pve2'",
			[]string{"id 103 is taken on node pve2", "run phoenix on pve2"}, false},
		"id of a VM": {"create", "VM 103 already exists on node 'pve'",
			[]string{"id 103 is taken on node pve", "choose another id"}, false},
		"id in a race": {"create", "unable to create CT 103 - CT 103 already exists on node 'pve'",
			[]string{"made by another at the same time"}, false},
		"not running": {"set", "CT 103 not running", []string{"container 103 does not run", "phoenix start 103"},
			false},
		"exec, stopped": {"set", "container '103' not running!", []string{"container 103 does not run"}, false},
		"push, stopped": {"set", "can only push files to a running CT", []string{"container 103 does not run"}, false},
		"pull, stopped": {"set", "can only pull files from a running VM at /usr/share/perl5/PVE/CLI/pct.pm line 490.",
			[]string{"container 103 does not run"}, false},
		"reboot": {"set", "VM 103 not running", []string{"container 103 does not run"}, false},
		"backup": {"set", "CT is locked (backup)",
			[]string{"container 103 is locked (backup)", "wait for its end"}, false},
		"mounted": {"set", "CT is locked (mounted)",
			[]string{"container 103 is locked (mounted)", "pct unmount 103"}, false},
		"migrate": {"set", "CT is locked (migrate)",
			[]string{"container 103 is locked (migrate)", "pct unlock 103"}, false},
		"storage": {"create", "storage 'nosuch' does not exist",
			[]string{"proxmox has no storage nosuch", "pvesm status"}, true},
		"archive": {"create", "unable to create CT 103 - volume 'local:vztmpl/x.tar.zst' does not exist",
			[]string{"the template archive local:vztmpl/x.tar.zst is not there", "pveam download"}, true},
		"volume": {"set", "volume 'local-zfs:subvol-103-disk-9' does not exist",
			[]string{"volume local-zfs:subvol-103-disk-9 is not there"}, true},
		"option": {"set", "Unknown option: bogus\n400 unable to parse option\npct set <vmid> [OPTIONS]",
			[]string{"this proxmox has no option bogus"}, true},
		"value": {"set", "400 Parameter verification failed.\nmemory: type check ('integer') failed - got " +
			"'abc'\npct set <vmid> [OPTIONS]", []string{"proxmox refuses a value", "memory: type check"}, true},
		"format": {"set", "mp5: invalid format - format error", []string{"proxmox refuses a value"}, true},
		"property": {"set", "mp5.bogus: property is not defined in schema and the schema does not allow " +
			"additional properties", []string{"proxmox refuses a value"}, true},
		"arguments": {"set", "400 not enough arguments\npct set <vmid> [OPTIONS]",
			[]string{"proxmox does not understand the call"}, true},
		"protected": {"set", "can't update CT 103 drive 'mp0' - protection mode enabled",
			[]string{"container 103 is protected", "pct set 103 --protection 0"}, true},
		"no quorum": {"create", "cluster not ready - no quorum?",
			[]string{"the cluster has no quorum", "pvecm status"}, true},
		"no quorum, set": {"set", "unable to open file '/etc/pve/nodes/pve/lxc/103.conf.tmp.4711' - Permission denied",
			[]string{"the cluster has no quorum"}, true},
		"pmxcfs": {"set", strings.Repeat("ipcc_send_rec[1] failed: Connection refused\n", 3) +
			"Unable to load access control list: Connection refused",
			[]string{"proxmox's own configuration does not answer", "systemctl status pve-cluster"}, true},
		"file lock": {"set", "trying to acquire lock...\ncan't lock file '/run/lock/lxc/pve-config-103.lock' - got " +
			"timeout",
			[]string{"another process is changing container 103", "fuser -v /run/lock/lxc/pve-config-103.lock " +
				"(package psmisc)"}, false},
		"changed": {"set", "detected modified configuration - file changed by other user? Try again.",
			[]string{"changed by another at the same time"}, false},
		"read-only": {"set", "unable to modify read-only option: 'unprivileged'",
			[]string{"unprivileged can only be chosen when a container is made"}, true},
		"bridge": {"create", "bridge 'nobr0' does not exist",
			[]string{"there is no bridge nobr0", "network_config.bridge"}, true},
		"id map": {"create", "newuidmap: uid range [0-65536) -> [200000-265536) not allowed",
			[]string{"root may not use the container's id map", "/etc/subuid"}, true},
		"linked": {"create", "Linked clone feature for 'local:900/vm-900-disk-0.raw' is not available",
			[]string{"has no linked clones"}, true},
		"running clone": {"create", "Full clone of a running container is only possible from a snapshot",
			[]string{"cloned from a snapshot only", "template_snapshot_name"}, true},
		"bind clone": {"create", "unable to clone mountpoint 'mp0' (type bind)",
			[]string{"a directory of the hypervisor is mounted as mp0", "lxc.mount.entry"}, true},
		"unknown": {"create", "the frobnicator of CT 103 has failed", []string{"not tried again", "task log"},
			true},
		"unknown, set": {"set", "unable to hotplug mp1: open_tree() failed", []string{"not tried again"}, true},
		"busy": {"set", "zfs error: cannot destroy 'rpool/data/subvol-103-disk-1': dataset is busy",
			[]string{"is in use"}, false},
		"away": {"create", "storage 'local-zfs' is not online",
			[]string{"storage local-zfs is away", "pvesm status"}, true},
		"full": {"create", "zfs error: cannot create 'rpool/data/x': No space left on device",
			[]string{"the storage is full"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if tc.verb == "set" {
				n.house()
				n.write(strings.Replace(n.conf("103"), "cores: 2", "cores: 1", 1), "pve/lxc/103.conf")
			}
			n.fault(tc.verb, 255, tc.says)
			last := tc.says[strings.LastIndexByte(tc.says, '\n')+1:]
			err := n.containerThing(n.container()).try()
			wants(t, err, tc.permanent, append(tc.words, "command failed: pct "+tc.verb+" 103", last)...)
			if err != nil && !strings.Contains(name, "unknown") &&
				strings.Index(err.Error(), tc.words[0]) > strings.Index(err.Error(), last) {
				t.Errorf("the tool's words come first:\n%s", err)
			}
		})
	}
}

// What is done already is no failure.
func TestRepeatedCallsAreDone(t *testing.T) {
	n := newNode(t)
	n.house()
	n.fault("start", 255, "CT 103 already running", "apply")
	n.runningThing().make()
	n.fault("shutdown", 255, "CT 103 not running", "apply")
	must(t, n.runningThing().d.Stop(context.Background(), n.host, n.runningThing().o))
	n.fault("snapshot", 255, "snapshot name 'one' already used", "apply")
	x := thing{n, newSnapshot(),
		asObject(t, spec.KindSnapshot, "103/one", spec.Snapshot{ID: "103", Name: "one", Proxmox: n.place()})}
	x.make()
}

// What a worker's children complain about is on standard output; it is shown too.
func TestWorkersComplaintsAreShown(t *testing.T) {
	n := newNode(t)
	n.house()
	n.write(`{"code":255,"stdout":"run_buffer: 571 Script exited with status 2\n","stderr":"startup for container '103' failed\n"}`, "faults/start")
	wants(t, n.runningThing().try(), true, "container 103 does not start", "Script exited with status 2",
		"startup for container '103' failed")
}

// With high availability it is another process that starts the container, later.
func TestAStartThatReturnsEarly(t *testing.T) {
	n := newNode(t)
	n.house()
	n.write(`{"code":0,"stdout":"Requesting HA start for CT 103\n"}`, "faults/start")
	done := make(chan error, 1)
	x := n.runningThing()
	go func() { done <- x.try() }()
	for len(n.calls("pct start")) == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	n.tool("pct", "start", "103")
	must(t, <-done)
	if d := x.delta(); !d.Empty() {
		t.Errorf("%+v", d)
	}
}

// A lock of Proxmox's own is told before anything is called.
func TestLockedContainersAreLeftAlone(t *testing.T) {
	n := newNode(t)
	n.house()
	n.write(strings.Replace(n.conf("103"), "cores: 2", "cores: 1\nlock: backup", 1), "pve/lxc/103.conf")
	n.forgetCalls()
	wants(t, n.containerThing(n.container()).try(), false, "container 103 is locked (backup): nothing was changed",
		"wait for its end")
	wants(t, n.runningThing().try(), false, "locked (backup)")
	if calls := n.calls("pct"); len(calls) > 0 {
		t.Errorf("%q", calls)
	}
}

// A snapshot that the storage cannot take is a person's matter.
func TestSnapshotThatCannotBe(t *testing.T) {
	n := newNode(t)
	n.house()
	n.fault("snapshot", 255, "snapshot feature is not available")
	x := thing{n, newSnapshot(),
		asObject(t, spec.KindSnapshot, "103/one", spec.Snapshot{ID: "103", Name: "one", Proxmox: n.place()})}
	wants(t, x.try(), true, "takes no snapshots", "enable_lifecycle_snapshots")
}
