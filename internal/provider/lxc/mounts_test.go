package lxc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/lxc"
)

// tmpfs mounts a file system with a file in it, and takes it away at the test's end.
func tmpfs(t *testing.T, at, name string) {
	t.Helper()
	must(t, os.MkdirAll(at, 0o755))
	argv := []string{"-t", "tmpfs", "-o", "size=1m,mode=0755", "phxmnt", at}
	if out, err := exec.Command("mount", argv...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", at).Run() }) // gone with its parent is as good
	must(t, os.WriteFile(filepath.Join(at, name), []byte("seen\n"), 0o644))
}

// A directory comes with what is mounted below it, before and after the start, and two containers may read one; a
// device is the container's own. None of it is a reason for a restart.
func TestMountsBelowSharesAndDevices(t *testing.T) {
	l := newLab(t)
	media := filepath.Join(l.top, "media")
	tmpfs(t, media, "top")
	must(t, exec.Command("mount", "--make-shared", media).Run()) // as systemd has all mounts
	tmpfs(t, filepath.Join(media, "before"), "film")
	must(t, os.MkdirAll(filepath.Join(media, "after"), 0o755))
	must(t, os.Mkdir(filepath.Join(media, "open"), 0o777))
	must(t, os.Chmod(filepath.Join(media, "open"), 0o777))
	if _, err := os.Lstat("/dev/net/tun"); err != nil {
		t.Fatalf("this machine has no tun: %v", err)
	}
	s := l.container(111)
	s.Mounts = []spec.Mount{{Source: media, Target: "/srv/media"}}
	s.Devices = []spec.Device{{Path: "/dev/net/tun", Major: 10, Minor: 200}}
	o := l.define(s)
	l.boot(o)
	tmpfs(t, filepath.Join(media, "after"), "film")
	inside := func(s spec.Container, script, want string) {
		t.Helper()
		if got := l.inside(s, "sh", "-c", script); got != want {
			t.Errorf("%s in %s: %q, not %q", script, s.ID, got, want)
		}
	}
	inside(s, "cat /srv/media/top /srv/media/before/film /srv/media/after/film", "seen\nseen\nseen")
	inside(s, "echo x >/srv/media/open/written && echo ok", "ok")
	inside(s, "stat -c '%a %u %t:%T' /dev/net/tun", "666 0 a:c8")
	inside(s, "(exec 3<>/dev/net/tun) && echo opened", "opened")
	inside(s, "setpriv --reuid 1000 --clear-groups sh -c '(exec 3<>/dev/net/tun) && echo opened'", "opened")
	if _, d := observe(t, lxc.NewRunning(), o); !d.Empty() {
		t.Errorf("to be restarted: %+v", d)
	}

	second := l.container(112)
	second.Mounts = []spec.Mount{{Source: filepath.Join(media, "open"), Target: "/srv/open", ReadOnly: true}}
	two := l.define(second)
	l.boot(two)
	inside(second, "cat /srv/open/written; echo y 2>/dev/null >/srv/open/other || echo refused", "x\nrefused")
	if _, d := observe(t, lxc.NewRunning(), two); !d.Empty() {
		t.Errorf("the second is to be restarted: %+v", d)
	}

	// What a start would fail of is seen before the stop.
	tmpfs(t, filepath.Join(media, "open", "late"), "film")
	second.MemoryBytes = 200 << 20
	second.Cores = 1
	second.Name = "other"
	two = l.define(second)
	before := initPID(t, second)
	err := lxc.NewRunning().Apply(t.Context(), &host.Local{}, two, plan.Delta{})
	if err == nil || !strings.Contains(err.Error(), filepath.Join(media, "open", "late")+" is mounted below") {
		t.Errorf("restarted over a mount that would be writable: %v", err)
	}
	second.Mounts = []spec.Mount{{Source: filepath.Join(media, "nowhere"), Target: "/srv/open"}}
	two = l.define(second)
	if err := lxc.NewRunning().Apply(t.Context(), &host.Local{}, two, plan.Delta{}); err == nil ||
		!strings.Contains(err.Error(), "nowhere, which is mounted in it, is not there") {
		t.Errorf("restarted without a directory: %v", err)
	}
	l.inside(second, "sh", "-c", "rm -rf /srv/link; ln -s /etc /srv/link")
	second.Mounts = []spec.Mount{{Source: media, Target: "/srv/link/x"}}
	two = l.define(second)
	if err := lxc.NewRunning().Apply(t.Context(), &host.Local{}, two, plan.Delta{}); err == nil ||
		!strings.Contains(err.Error(), "nothing can be mounted at /srv/link/x") {
		t.Errorf("restarted over a link: %v", err)
	}
	if after := initPID(t, second); after != before {
		t.Errorf("it was stopped: %d, then %d", before, after)
	}
}

// Devices are made for the container's own users, mended, and taken away with their line.
func TestDevicesOfTheContainersOwn(t *testing.T) {
	l := newLab(t)
	s := l.container(113)
	s.Devices = []spec.Device{{Path: "/dev/net/tun", Major: 10, Minor: 200}, {Path: "/dev/fuse", Major: 10, Minor: 229}}
	l.define(s)
	node := filepath.Join(s.Path, s.ID, "devices", "net-tun")
	if m, err := (&host.Local{}).Lstat(node); err != nil || m.UID != 100000 || m.Major != 10 || m.Minor != 200 ||
		m.Mode.Perm() != 0o666 {
		t.Errorf("%+v, %v", m, err)
	}
	must(t, os.Chown(node, 0, 0))
	l.define(s)
	if m, _ := (&host.Local{}).Lstat(node); m.UID != 100000 {
		t.Errorf("not mended: %+v", m)
	}
	must(t, os.Remove(node))
	must(t, os.WriteFile(node, nil, 0o600))
	l.define(s)
	if m, _ := (&host.Local{}).Lstat(node); m.Major != 10 {
		t.Errorf("a file stays: %+v", m)
	}
	s.Devices = s.Devices[1:]
	l.define(s)
	if _, err := os.Lstat(node); err == nil {
		t.Error("taken out, and there")
	}
	config, err := os.ReadFile(filepath.Join(s.Path, s.ID, "config"))
	must(t, err)
	if strings.Contains(string(config), "10:200") || !strings.Contains(string(config), "c 10:229 rwm") {
		t.Errorf("%s", config)
	}
}
