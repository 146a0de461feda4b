package health

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// lxcBed is a directory of real containers without a network: systemd from this machine's own /usr as init.
type lxcBed struct {
	t    *testing.T
	path string
}

func newBed(t *testing.T) *lxcBed {
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	for _, p := range []string{"lxc-start", "lxc-info", "lxc-attach", "lxc-stop", "/usr/lib/systemd/systemd"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("containers need", p)
		}
	}
	dir, err := os.MkdirTemp("", "phoenix-health-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // containers' roots go through
		t.Fatal(err)
	}
	return &lxcBed{t, dir}
}

func (b *lxcBed) running(id string) spec.Running { return spec.Running{ID: id, Path: b.path} }

func (b *lxcBed) mkdir(path string, mode fs.FileMode, uid int) string {
	if err := os.MkdirAll(path, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chown(path, uid, uid); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *lxcBed) write(path, data string) {
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chown(path, idMap.Base, idMap.Base); err != nil {
		b.t.Fatal(err)
	}
}

// define makes a container whose systemd starts good, bad and once. mounts are lines of configuration.
func (b *lxcBed) define(id string, mounts ...string) {
	root := filepath.Join(b.path, id, "rootfs")
	for _, dir := range []string{"", "usr", "proc", "sys", "dev", "run", "tmp", "var", "data", "etc", "etc/systemd",
		"etc/systemd/system"} {
		b.mkdir(filepath.Join(root, dir), 0o755, idMap.Base)
	}
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, filepath.Join(root, l)); err != nil {
			b.t.Fatal(err)
		}
	}
	units := filepath.Join(root, "etc/systemd/system")
	for name, text := range map[string]string{
		"default.target": "[Unit]\nWants=good.service bad.service once.service\nAfter=good.service bad.service " +
			"once.service\n",
		"good.service": "[Service]\nExecStart=/bin/sleep infinity\n",
		"bad.service":  "[Service]\nType=oneshot\nExecStart=/bin/false\n",
		"once.service": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
	} {
		b.write(filepath.Join(units, name), text)
	}
	if err := os.Symlink("/dev/null", filepath.Join(units, "sys-kernel-debug.mount")); err != nil {
		b.t.Fatal(err)
	}
	b.write(filepath.Join(root, "etc/passwd"), "root:x:0:0::/:/bin/sh\n")
	b.write(filepath.Join(root, "etc/machine-id"), "")
	lines := append([]string{
		"lxc.rootfs.path = dir:" + root, "lxc.uts.name = c" + id, "lxc.net.0.type = empty",
		"lxc.init.cmd = /usr/lib/systemd/systemd",
		fmt.Sprintf("lxc.idmap = u 0 %d %d", idMap.Base, idMap.Count),
		fmt.Sprintf("lxc.idmap = g 0 %d %d", idMap.Base, idMap.Count),
		"lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed", "lxc.mount.entry = /usr usr none bind,ro 0 0",
	}, mounts...)
	b.write(filepath.Join(b.path, id, "config"), strings.Join(lines, "\n")+"\n")
}

func (b *lxcBed) start(id string) {
	out, err := exec.Command("lxc-start", "-P", b.path, "-n", id).CombinedOutput()
	if err != nil {
		b.t.Skipf("containers cannot be started here: %v %s", err, out)
	}
	b.t.Cleanup(func() { b.stop(id) })
}

func (b *lxcBed) stop(id string) {
	// Fails where it is stopped already.
	_ = exec.Command("lxc-stop", "-k", "-P", b.path, "-n", id).Run()
}

// insideHost runs commands in a container and reads its files through its first process.
type insideHost struct {
	host.Local
	bed  *lxcBed
	id   string
	root string
}

func (b *lxcBed) inside(id string) *insideHost {
	pid, err := initPID(b.t.Context(), &host.Local{}, b.running(id))
	if err != nil || pid == 0 {
		b.t.Fatalf("container %s has no first process: %v", id, err)
	}
	return &insideHost{bed: b, id: id, root: fmt.Sprintf("/proc/%d/root", pid)}
}

func (h *insideHost) Run(ctx context.Context, c host.Command) (host.Result, error) {
	c.Argv = append([]string{"lxc-attach", "-P", h.bed.path, "-n", h.id, "--clear-env", "--"}, c.Argv...)
	return h.Local.Run(ctx, c)
}

func (h *insideHost) ReadFile(path string) ([]byte, error) {
	if path == "/proc/self/mountinfo" {
		return h.Local.ReadFile(strings.TrimSuffix(h.root, "root") + "mountinfo")
	}
	return h.Local.ReadFile(h.root + path)
}

// Lstat gives ids as they are seen inside.
func (h *insideHost) Lstat(path string) (host.Meta, error) {
	m, err := h.Local.Lstat(h.root + path)
	m.UID, m.GID = m.UID-idMap.Base, m.GID-idMap.Base
	return m, err
}

func (b *lxcBed) expect(h host.Host, kind string, params any, want Status, says string) {
	b.t.Helper()
	d := (&model{}).add(kind, testObject("running/1", b.running("1")), "1", params)
	r := Run(b.t.Context(), h, d.Check)
	if r.Status != want || !strings.Contains(r.Summary+" | "+r.Evidence, says) {
		b.t.Errorf("%s: got %s: %s | %s\nwant %s with %q", kind, r.Status, r.Summary, r.Evidence, want, says)
	}
}

// TestRealContainers pins what lxc-info, systemctl and the kernel say against the checks that read it.
func TestRealContainers(t *testing.T) {
	b, h := newBed(t), &host.Local{}
	b.mkdir(filepath.Join(b.path, "volumes"), 0o711, 0)
	b.mkdir(filepath.Join(b.path, "volumes", "1"), 0o710, 0)
	if err := os.Chown(filepath.Join(b.path, "volumes", "1"), 0, idMap.Base); err != nil {
		t.Fatal(err)
	}
	v := spec.Volume{
		Container: "1", Name: "ssl", Path: b.mkdir(filepath.Join(b.path, "volumes", "1", "ssl"), 0o700, idMap.Base),
		MountPoint: "/data", Mode: 0o700, IDMap: idMap,
	}
	b.define("1", "lxc.mount.entry = "+v.Path+" data none bind 0 0")
	b.define("2")
	alone := aloneParams{Volume: v, Owner: b.running("1"), LXCPath: b.path}

	b.expect(h, kindRunning, b.running("1"), Fail, "state STOPPED")
	b.expect(h, kindRunning, b.running("9"), Fail, "doesn't exist")
	b.expect(h, kindIDMap, idMapParams{b.running("1"), idMap}, Fail, "no first process")
	b.expect(h, kindVolumeAlone, alone, Pass, "not mounted now")

	b.start("1")
	b.start("2")
	b.expect(h, kindRunning, b.running("1"), Pass, "RUNNING")
	b.expect(h, kindIDMap, idMapParams{b.running("1"), idMap}, Pass, "0 100000 65536")
	b.expect(h, kindVolumeOwner, v, Pass, "")
	b.expect(h, kindVolumeParents, v, Pass, "0710 0:100000")
	b.expect(b.inside("1"), kindVolumeMount, v, Pass, "/data")
	b.expect(b.inside("2"), kindVolumeMount, v, Fail, "not mounted")
	b.expect(h, kindVolumeAlone, alone, Pass, "1 others looked at")
	b.systemd(b.inside("1"))

	// 2 is defined anew so that it sees the directory above; its configuration then says nothing of it any more.
	b.stop("2")
	config := filepath.Join(b.path, "2", "config")
	before, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	b.write(config, string(before)+"lxc.mount.entry = "+filepath.Join(b.path, "volumes")+" data none bind 0 0\n")
	b.expect(h, kindVolumeAlone, alone, Fail, "by its configuration")
	b.start("2")
	b.write(config, string(before))
	b.expect(h, kindVolumeAlone, alone, Fail, "seen in container 2 too")
}

// systemd goes through the states of units and of systemd itself.
func (b *lxcBed) systemd(in *insideHost) {
	waitFor(b.t, "systemd to be up", func() bool {
		res, _ := in.Run(b.t.Context(), host.Command{Argv: []string{"systemctl", "is-system-running"}})
		state := strings.TrimSpace(string(res.Stdout))
		return state == "degraded" || state == "running"
	})
	b.expect(in, kindSystemd, systemdParams{}, Fail, "failed units: bad.service")
	b.expect(in, kindSystemd, systemdParams{Units: []string{"bad.service"}}, Pass, "degraded")
	b.expect(in, kindUnit, unitParams{Name: "good.service"}, Pass, "active (running)")
	b.expect(in, kindUnit, unitParams{Name: "good.service", Stopped: true}, Fail, "should not run")
	b.expect(in, kindUnit, unitParams{Name: "bad.service", Oneshot: true}, Fail, "failed (failed), result exit-code")
	b.expect(in, kindUnit, unitParams{Name: "once.service", Oneshot: true}, Pass, "has run")
	b.expect(in, kindUnit, unitParams{Name: "none.service"}, Fail, "not-found")
	b.expect(in, kindDaemon, nothing{}, Fail, "not running")
	if _, err := in.Run(b.t.Context(), host.Command{Argv: []string{"systemctl", "reset-failed"}}); err != nil {
		b.t.Fatal(err)
	}
	b.expect(in, kindSystemd, systemdParams{}, Pass, "running")
}
