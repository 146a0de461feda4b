package pve_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A volume that is an image shows its owner only where it is mounted: before the first start phoenix mounts it for a
// moment, in a mount namespace of its own, and notes what it set.
func TestVolumeThatIsAnImage(t *testing.T) {
	for _, tool := range []string{"mkfs.ext4", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	n := newNode(t)
	v := n.ssl()
	v.Pool, v.UID, v.GID = "local", 902, 902
	s := n.container()
	s.Guest.Volumes[0] = v
	n.containerThing(s).make()
	x := n.volumeThing(v)
	if err := x.try(); err != nil && strings.Contains(err.Error(), "failed to setup loop device") {
		t.Skipf("no loop devices here: %v", err)
	}
	x.make()
	image := n.path("vz/images/103/vm-103-disk-0.raw")
	dir := t.TempDir()
	out, err := exec.Command("unshare", "--mount", "sh", "-c",
		`mount -o ro "$1" "$2" && stat -c '%u:%g %a' "$2"; umount "$2"`, "sh", image, dir).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "100902:100902 700" {
		t.Errorf("%v: %s", err, out)
	}
	if c := n.conf("103"); !strings.Contains(c,
		"volume/103/ssl local%3A103/vm-103-disk-0.raw "+image+" 902%3A902 0700\n") {
		t.Errorf("%s", c)
	}
	v.Mode = 0o750
	again := n.volumeThing(v)
	if d := again.delta(); !d.Has("mode") || len(d.Fields) != 1 {
		t.Errorf("%+v", d)
	}
	again.make()
	if left, err := filepath.Glob("/tmp/tmp.*/lost+found"); err != nil || len(left) > 0 {
		t.Errorf("still mounted: %q", left)
	}
	if _, err := os.Stat(image); err != nil {
		t.Error(err)
	}
}

// A device that is switched off while its container is stopped: Proxmox mounts it, and it is never taken for lost.
func TestVolumeOnADeviceThatIsOff(t *testing.T) {
	n := newNode(t)
	v := n.ssl()
	v.Pool = "local-lvm"
	s := n.container()
	s.Guest.Volumes[0] = v
	n.containerThing(s).make()
	n.volumeThing(v).make()
	m, err := n.host.Lstat(n.path("lvm/vm-103-disk-0"))
	if err != nil || m.UID != 100000 || m.Mode.Perm() != 0o700 {
		t.Errorf("%+v, %v", m, err)
	}
	if c := n.conf("103"); strings.Contains(c, "lock") ||
		!strings.Contains(c, "local-lvm%3Avm-103-disk-0 /dev/phxfake/vm-103-disk-0 0%3A0 0700") {
		t.Errorf("%s", c)
	}
	n.tool("pct", "set", "103", "--delete", "mp0")
	n.containerThing(s).make()
	if left := n.volumes("lvm"); len(left) != 1 {
		t.Errorf("%q", left)
	}
	x := n.containerThing(s)
	must(t, x.d.Delete(context.Background(), n.host, x.o))
	x.make()
	if left := n.volumes("lvm"); len(left) != 1 || !strings.Contains(n.conf("103"), "mp0: local-lvm:vm-103-disk-0,") {
		t.Errorf("%q\n%s", left, n.conf("103"))
	}
}
