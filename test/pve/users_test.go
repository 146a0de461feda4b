package pve

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUsersHouse makes the three of the users' own files on a host with the storages that they name. The archive that
// they name is not here, so that their template is built, by a program that stands in for mmdebstrap.
func TestUsersHouse(t *testing.T) {
	t.Parallel()
	dir := cmp.Or(os.Getenv("PHOENIX_USER_FILES"), "../../../shared/phoenix-configs")
	h := newHost(t)
	for name, own := range map[string]string{"phoenix_lxc_configs.json": "lxc-own-directories.json",
		"phoenix_hypervisor_config.json": "hypervisor.json"} {
		raw, err := os.ReadFile(filepath.Join(dir, own))
		if err != nil {
			t.Skipf("the users' own files are not here (set PHOENIX_USER_FILES): %v", err)
		}
		h.write(string(raw), "config", name)
	}
	h.reset()
	h.write("#!/bin/sh\nfor a; do case $a in *.tmp) echo an archive >\"$a\";; esac; done\n", "bin", "mmdebstrap")
	h.write("zfspool: quickOS-lxc-disks\n\tpool quickOS/lxc-disks\n\tmountpoint "+h.path("zfs")+
		"\n\tcontent rootdir,images\n", "pve", "storage.cfg")
	create := append([]string{"create"}, ids...)
	h.changes(0, create...)
	calls := strings.Join(h.pct(), "\n")
	for _, want := range []string{
		"pct create 900 " + h.path("cache") + "/", "pct snapshot 900 final-form", "pct clone 900 103 ",
		"--snapname final-form",
		"pct snapshot 103 pre-configured", "pct snapshot 103 final-form", "pct snapshot 102 pre-configured",
	} {
		if !strings.Contains(calls, want) {
			t.Errorf("no %q in\n%s", want, calls)
		}
	}
	if strings.Contains(calls, "pct snapshot 101 ") {
		t.Error("101 asks for no snapshots")
	}
	for id, want := range map[string][]string{
		"103": {"hostname: Step-CA\n", "startup: order=1,up=5\n", "memory: 1024\n", "rootfs: quickOS-lxc-disks:",
			",size=16G\n", "lxc.apparmor.profile: unconfined\n", "mp=/etc/step-ca/ssl,backup=1,"},
		"101": {"lxc.mount.auto: sys:rw\n", "hwaddr=52:54:00:67:89:B3", "ip=10.0.0.153/24", "nameserver: 10.0.0.13\n",
			"mp=/var/log/nginx,", "features: nesting=1\n", ",size=32G\n"},
	} {
		first, _, _ := strings.Cut(h.conf(id), "\n[")
		for _, w := range want {
			if !strings.Contains(first, w) {
				t.Errorf("%s: no %q in\n%s", id, w, first)
			}
		}
	}
	h.unchanged(create)
	if calls := h.pct(); len(calls) > 0 {
		t.Errorf("without a change: %q", calls)
	}
}
