package pve_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// wants fails unless err says all of this.
func wants(t *testing.T, err error, permanent bool, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	text := err.Error() + "\nhint: " + provider.Hint(err)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
	if provider.IsPermanent(err) != permanent {
		t.Errorf("permanent is %t: %s", !permanent, text)
	}
}

// Trap 1: the same mistake ends with many codes, and many mistakes with the same one. Only the words count.
func TestExitCodesMeanNothing(t *testing.T) {
	for _, code := range []int{1, 2, 4, 25, 39, 111, 255} {
		n := newNode(t)
		n.fault("create", code, "storage 'local-zfs' does not exist")
		wants(t, n.containerThing(n.container()).try(), true, "proxmox has no storage local-zfs", "pvesm status")
		n.fault("create", code, "CT is locked (backup)")
		wants(t, n.containerThing(n.container()).try(), false, "locked (backup)", "wait for its end")
	}
}

// Trap 2: a resize that fails ends well, with the new size in the file.
func TestGrowthIsVerified(t *testing.T) {
	n := newNode(t)
	n.house()
	s := n.container()
	s.Guest.SizeGB = 6
	n.write("", "no-growth")
	wants(t, n.containerThing(s).try(), true, "rootfs of container 103 was not made larger",
		"Failed to update the container's filesystem")
	must(t, os.Remove(n.path("no-growth")))
	s.Guest.SizeGB = 7
	n.containerThing(s).make()
	if c := n.conf("103"); !strings.Contains(c, "disk-1,size=7G") && !strings.Contains(c, "disk-0,size=7G") {
		t.Errorf("not grown:\n%s", c)
	}
	s.Guest.SizeGB = 2 // smaller is no difference: it cannot be
	if d := n.containerThing(s).delta(); !d.Empty() {
		t.Errorf("%+v", d)
	}
}

// Trap 2: nothing goes into a container with pct push, which ends well though nothing arrived.
func TestNothingIsPushed(t *testing.T) {
	n := newNode(t)
	n.up()
	if calls := append(n.calls("pct push"), n.calls("pct pull")...); len(calls) > 0 {
		t.Errorf("%q", calls)
	}
}

// Trap 3: pct set with STORAGE:SIZE makes another volume each time. A stopped container, killed before and after the
// call.
func TestNoVolumeIsMadeTwice(t *testing.T) {
	for at := 1; at <= 4; at++ {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("change %d, applied %t", at, applied), func(t *testing.T) {
				n := newNode(t)
				s := n.container()
				s.Guest.Volumes = nil
				n.containerThing(s).make()
				x := n.containerThing(n.container())
				_ = x.d.Apply(context.Background(), &host.Faulty{Host: n.host, At: at, Applied: applied}, x.o,
					x.delta())
				x.make()
				v := n.volumeThing(n.ssl())
				_ = v.d.Apply(context.Background(), &host.Faulty{Host: n.host, At: at, Applied: applied}, v.o,
					v.delta())
				v.make()
				x.make()
				if got := n.volumes("zfs"); len(got) != 2 {
					t.Errorf("volumes %q", got)
				}
			})
		}
	}
}

// Trap 3: while the container runs a second volume for a mounted path only waits, and would take the data's place at
// the next stop.
func TestAWaitingVolumeIsTakenBack(t *testing.T) {
	n := newNode(t)
	n.up()
	before := n.volumes("zfs")
	n.tool("pct", "set", "103", "--mp0", "local-zfs:1,mp=/etc/step-ca/ssl")
	x := n.containerThing(n.container())
	if d := x.delta(); !d.Has("mp0") {
		t.Fatalf("not seen: %+v", d)
	}
	x.make()
	n.tool("pct", "stop", "103")
	if after := n.volumes("zfs"); !slices.Equal(before, after) || strings.Contains(n.conf("103"), "unused") {
		t.Errorf("%q became %q:\n%s", before, after, n.conf("103"))
	}
	n.up()
	n.tool("pct", "set", "103", "--delete", "mp0") // waits as well
	x.make()
	n.tool("pct", "stop", "103")
	if c := n.conf("103"); !strings.Contains(c, "mp0: ") {
		t.Errorf("the volume went away:\n%s", c)
	}
}

// A volume that waits as unusedN is mounted again by its mark, whatever number it had.
func TestAnUnusedVolumeIsMountedAgain(t *testing.T) {
	n := newNode(t)
	n.house()
	must(t, os.WriteFile(n.path("zfs", strings.TrimPrefix(volumeOf(n, "mp0"), "local-zfs:"), "key"),
		[]byte("secret"), 0o600))
	own := volumeOf(n, "mp0")
	n.tool("pct", "set", "103", "--delete", "mp0")
	n.tool("pct", "set", "103", "--mp0", "local-zfs:1,mp=/srv/other")
	before := n.volumes("zfs")
	n.containerThing(n.container()).make()
	n.volumeThing(n.ssl()).make()
	if got := n.volumes("zfs"); !slices.Equal(got, before) {
		t.Errorf("%q became %q", before, got)
	}
	if got := volumeOf(n, "mp1"); got != own {
		t.Errorf("mounted is %s, want %s:\n%s", got, own, n.conf("103"))
	}
	if c := n.conf("103"); strings.Contains(c, "unused") || !strings.Contains(c, "mp=/srv/other") {
		t.Errorf("%s", c)
	}
}

// volumeOf is what a mount point holds.
func volumeOf(n *node, key string) string {
	_, after, _ := strings.Cut(n.conf("103"), "\n"+key+": ")
	v, _, _ := strings.Cut(after, ",")
	return v
}

// Another volume at the path, and phoenix's own waits: only a person knows which has the data.
func TestTwoVolumesForOnePathAreAPersonsMatter(t *testing.T) {
	n := newNode(t)
	n.house()
	n.tool("pct", "set", "103", "--mp0", "local-zfs:1,mp=/etc/step-ca/ssl") // stopped: at once
	s := n.container()
	s.MemoryBytes = 2 << 30
	before := n.conf("103")
	wants(t, n.containerThing(s).try(), true, "at /etc/step-ca/ssl of container 103 is local-zfs:",
		"to mount the recorded one: pct set 103 --mp0")
	wants(t, n.volumeThing(n.ssl()).try(), true, "volume/103/ssl is local-zfs:")
	if got := n.conf("103"); got != before {
		t.Errorf("changed:\n%s", got)
	}
}

// A killed pct set may leave a volume that the file does not speak of. It is not taken for anything, and the container
// becomes whole.
func TestMatchedByPathNotByNumber(t *testing.T) {
	n := newNode(t)
	n.house()
	n.write(strings.Replace(n.conf("103"), "mp0: ", "mp7: ", 1), "pve/lxc/103.conf")
	if d := n.containerThing(n.container()).delta(); !d.Empty() {
		t.Errorf("%+v", d)
	}
	if d := n.volumeThing(n.ssl()).delta(); !d.Empty() {
		t.Errorf("%+v", d)
	}
}

// Trap 4: destroy without quorum takes the disks. Nothing is touched then.
func TestNothingIsDestroyedWithoutQuorum(t *testing.T) {
	n := newNode(t)
	n.house()
	before, volumes := n.conf("103"), n.volumes("zfs")
	n.quorum(false)
	n.forgetCalls()
	ctx := context.Background()
	for what, err := range map[string]error{
		"container": n.containerThing(n.container()).d.Delete(ctx, n.host, n.containerThing(n.container()).o),
		"volume":    n.volumeThing(n.ssl()).d.Delete(ctx, n.host, n.volumeThing(n.ssl()).o),
		"start":     n.runningThing().try(),
	} {
		t.Log(what)
		wants(t, err, true, "no quorum: nothing was changed", "pvecm status")
	}
	if calls := n.calls("pct"); len(calls) > 0 {
		t.Errorf("called %q", calls)
	}
	n.quorum(true)
	if n.conf("103") != before || !slices.Equal(n.volumes("zfs"), volumes) {
		t.Errorf("changed: %s, %q", n.conf("103"), n.volumes("zfs"))
	}
}

// Trap 4, the other way round: the fake does lose the disks, so that the test above proves something.
func TestTheFakeLosesDisksWithoutQuorum(t *testing.T) {
	n := newNode(t)
	n.house()
	n.quorum(false)
	res, err := n.host.Run(context.Background(), host.Command{Argv: []string{"pct", "destroy", "103"}, Mutates: true})
	if err == nil || !strings.Contains(string(res.Stderr), "Permission denied") || len(n.volumes("zfs")) > 0 ||
		n.conf("103") == "" {
		t.Errorf("%v, %q", err, n.volumes("zfs"))
	}
}

// Trap 5: create unpacks the archive into any volume it is given. It is given sizes only, and what waits is mounted
// afterwards.
func TestNothingIsUnpackedOverAVolume(t *testing.T) {
	n := newNode(t)
	n.house()
	own := volumeOf(n, "mp0")
	n.write("secret", "zfs", strings.TrimPrefix(own, "local-zfs:"), "key")
	x := n.containerThing(n.container())
	must(t, x.d.Delete(context.Background(), n.host, x.o))
	n.forgetCalls()
	x.make()
	calls := n.calls("pct create")
	if len(calls) != 1 || strings.Contains(calls[0], "subvol-") ||
		!strings.Contains(calls[0], "--rootfs local-zfs:4 ") {
		t.Errorf("%q", calls)
	}
	n.volumeThing(n.ssl()).make()
	if got := volumeOf(n, "mp0"); got != own ||
		n.read("zfs", strings.TrimPrefix(own, "local-zfs:"), "key") != "secret" {
		t.Errorf("the volume was %s and is %s", own, got)
	}
}

// Trap 6: a directory of the hypervisor as a mount point would keep Proxmox from making snapshots.
func TestDirectoriesAreMountedByRawLines(t *testing.T) {
	n := newNode(t)
	s := n.container()
	dir := n.path("data")
	must(t, os.MkdirAll(dir, 0o755))
	s.Guest.Binds = []spec.Mount{{Source: dir, Target: "/var/log/nginx"}}
	n.containerThing(s).make()
	want := "lxc.mount.entry: " + dir + " var/log/nginx none rbind,rslave,create=dir 0 0\n"
	if c := n.conf("103"); !strings.Contains(c, want) || strings.Contains(c, "mp1") {
		t.Errorf("%s", c)
	}
	n.tool("pct", "snapshot", "103", "works")
	if c := n.conf("103"); !strings.Contains(c, want+"\n[works]") && !strings.Contains(c, want) {
		t.Errorf("%s", c)
	}
	// A missing directory is told by its name; Proxmox would speak of a script.
	must(t, os.Remove(dir))
	wants(t, n.runningThing().try(), true, dir+", which is mounted in it, is not there")
}

// Raw lines stand before the first section. Appended they would belong to a snapshot.
func TestRawLinesAreTheContainersOwn(t *testing.T) {
	n := newNode(t)
	n.house()
	n.tool("pct", "snapshot", "103", "one")
	s := n.container()
	s.Options = []spec.Option{{Key: "lxc.tty.max", Value: "8"}}
	n.containerThing(s).make()
	first, second, _ := strings.Cut(n.conf("103"), "[one]")
	if !strings.Contains(first, "lxc.tty.max: 8\n") || !strings.Contains(second, "lxc.tty.max: 4\n") {
		t.Errorf("%s", n.conf("103"))
	}
	if out := n.tool("pct", "config", "103"); !strings.Contains(out, "lxc.tty.max: 8") {
		t.Errorf("proxmox reads %s", out)
	}
}

// The file may be changed by another between the look and the edit.
func TestAnEditOfAnotherIsNotLost(t *testing.T) {
	n := newNode(t)
	n.house()
	s := n.container()
	s.Options = nil
	meddle := func() {
		n.write(strings.Replace(n.conf("103"), "onboot: 1", "onboot: 1\nprotection: 1", 1), "pve/lxc/103.conf")
	}
	meddler := &meddling{Host: n.host, before: "sh", do: meddle}
	x := n.containerThing(s)
	wants(t, x.d.Apply(context.Background(), meddler, x.o, x.delta()), false, "changed by another at the same time")
	if c := n.conf("103"); !strings.Contains(c, "protection: 1") || !strings.Contains(c, "lxc.tty.max") {
		t.Errorf("%s", c)
	}
	x.make()
	if c := n.conf("103"); !strings.Contains(c, "protection: 1") || strings.Contains(c, "lxc.tty.max") {
		t.Errorf("%s", c)
	}
	meddler = &meddling{Host: n.host, before: "pct", do: meddle}
	s.Cores = 3
	n.write(strings.Replace(n.conf("103"), "protection: 1\n", "", 1), "pve/lxc/103.conf")
	x = n.containerThing(s)
	wants(t, x.d.Apply(context.Background(), meddler, x.o, x.delta()), false, "changed by another at the same time")
}

// meddling does something right before a command is run.
type meddling struct {
	host.Host
	before string
	do     func()
}

func (m *meddling) Run(ctx context.Context, c host.Command) (host.Result, error) {
	if c.Argv[0] == m.before && m.do != nil {
		m.do()
		m.do = nil
	}
	return m.Host.Run(ctx, c)
}

// Trap 3, once more: a killed pct set has made a volume that nothing speaks of. An empty one is taken, one with data is
// nobody's to take.
func TestAVolumeThatNothingSpeaksOf(t *testing.T) {
	n := newNode(t)
	s := n.container()
	s.Guest.Volumes = nil
	n.containerThing(s).make()
	n.tool("pvesm", "alloc", "local-zfs", "103", "", "1G")
	n.write("data", "zfs/subvol-103-disk-1/file")
	n.tool("pvesm", "alloc", "local-zfs", "103", "", "1G")
	n.containerThing(n.container()).make()
	n.volumeThing(n.ssl()).make()
	if got := volumeOf(n, "mp0"); got != "local-zfs:subvol-103-disk-2" || len(n.volumes("zfs")) != 3 {
		t.Errorf("mounted is %s of %q", got, n.volumes("zfs"))
	}
	if m, err := n.host.Lstat(n.path("zfs/subvol-103-disk-2")); err != nil || m.UID != 100000 ||
		m.Mode.Perm() != 0o700 {
		t.Errorf("%+v, %v", m, err)
	}
}

// cut is the host as it is when phoenix is killed while it writes: what comes in ends early.
type cut struct {
	host.Host
	at int
}

func (c cut) Run(ctx context.Context, cmd host.Command) (host.Result, error) {
	if len(cmd.Stdin) > c.at {
		cmd.Stdin = cmd.Stdin[:c.at]
	}
	return c.Host.Run(ctx, cmd)
}

func TestHalfAConfigurationReplacesNothing(t *testing.T) {
	n := newNode(t)
	n.house()
	s := n.container()
	s.Options = append(s.Options, spec.Option{Key: "lxc.prlimit.nofile", Value: "4096"})
	before := n.conf("103")
	for _, at := range []int{0, 1, len(before) / 2} {
		x := n.containerThing(s)
		x.n.host = cut{n.host, at}
		if err := x.try(); err == nil || !strings.Contains(err.Error(), "came only in part") {
			t.Errorf("cut at %d: %v", at, err)
		}
		if now := n.conf("103"); now != before {
			t.Fatalf("cut at %d: the file is now:\n%s", at, now)
		}
		x.n.host = x.n.host.(cut).Host
	}
	n.containerThing(s).make()
}
