package pve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pve"
)

var ownMap = spec.IDMap{Base: 0x70010000, Count: 65536}

const ownLines = "lxc.idmap: u 0 1879113728 65536\nlxc.idmap: g 0 1879113728 65536\n"

// ids is the range that 103 is to have.
func (n *node) ids() spec.IDRange {
	p := n.place()
	return spec.IDRange{ID: "103", Path: n.path("pve/lxc"), IDMap: ownMap, Claims: n.path("claims"), Proxmox: &p,
		Records: n.path("root/volumes/103")}
}

func (n *node) idsThing(s spec.IDRange) thing {
	return thing{n, pve.NewIDs(), asObject(n.t, spec.KindIDs, s.ID, s)}
}

// volumeAt is where the volume of a key of 103's file is: which of several comes first is left to chance.
func (n *node) volumeAt(key string) string {
	n.t.Helper()
	_, rest, _ := strings.Cut(n.conf("103"), "\n"+key+": ")
	name, _, ok := strings.Cut(rest, ",")
	if !ok {
		n.t.Fatalf("no %s in\n%s", key, n.conf("103"))
	}
	return n.path("zfs", strings.TrimPrefix(name, "local-zfs:"))
}

// before is 103 with the range that all have.
func (n *node) before() {
	n.t.Helper()
	n.house()
	put(n.t, n.volumeAt("mp0")+"/key", 100033, 0o4640)
	put(n.t, n.volumeAt("mp0")+"/stranger", 300000, 0o600)
}

func put(t *testing.T, path string, id int, mode uint32) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	must(t, os.Lchown(path, id, id))
	must(t, syscall.Chmod(path, mode))
}

// outside are the files below a directory that are not of a range, by name.
func outside(t *testing.T, dir string, m spec.IDMap) (out []string) {
	t.Helper()
	seen := 0
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		fi, err := d.Info()
		must(t, err)
		st := fi.Sys().(*syscall.Stat_t)
		for _, id := range []int{int(st.Uid), int(st.Gid)} {
			if id < m.Base || id >= m.Base+m.Count {
				out = append(out, strings.TrimPrefix(path, dir))
			}
		}
		seen++
		return nil
	}))
	if seen == 0 {
		t.Errorf("%s is empty", dir)
	}
	return slices.Compact(out)
}

// moved demands that 103's files, its lines and its claim are of its own range, and that nothing of the way is left.
func (n *node) moved(root, volume string) {
	n.t.Helper()
	hidden := func(name string) bool { return name == "/etc/step-ca/ssl" } // by what is mounted there
	if left := slices.DeleteFunc(outside(n.t, root, ownMap), hidden); len(left) > 0 {
		n.t.Errorf("of another range: %q", left)
	}
	if left := outside(n.t, volume, ownMap); len(left) > 0 && !slices.Equal(left, []string{"/stranger"}) &&
		!slices.Equal(left, []string{"/lost+found"}) {
		n.t.Errorf("of another range: %q", left)
	}
	if c := n.conf("103"); strings.Count(c, ownLines) != 1 || strings.Count(c, "idmap") != 2 ||
		strings.Contains(c, "lock:") || strings.Contains(c, "ids/103") {
		n.t.Errorf("its file:\n%s", c)
	}
	if m, err := n.host.Lstat(filepath.Join(root, "usr/su")); err != nil || m.Mode.Perm() != 0o755 ||
		m.Mode&fs.ModeSetuid == 0 {
		n.t.Errorf("setuid was lost: %+v, %v", m, err)
	}
	if d := n.idsThing(n.ids()).delta(); !d.Empty() {
		n.t.Errorf("there is more to do: %+v", d)
	}
}

func TestIDsConformance(t *testing.T) {
	conformance.Isolated(t, "ln", "sync")
	var n *node
	volume := func() string { return n.volumeAt("mp0") }
	conformance.Run(t, conformance.Case{
		Driver: pve.NewIDs(), Fields: []string{"claimed", "id_map", "moved from"},
		Tools: []string{"ln", "sync", "pvesm"},
		State: func(t *testing.T, o object.Object) string {
			return tree(&n)(t, o) + conformance.Tree(t, n.path("claims"))
		},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			n = newNode(t)
			must(t, os.MkdirAll(n.path("claims"), 0o755))
			n.before()
			return n.host, n.idsThing(n.ids()).o
		},
		Break: map[string]conformance.Damage{
			"a lost claim": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.Remove(n.path("claims", fmt.Sprint(ownMap.Base))))
			},
			"lost lines":    damage(&n, ownLines, ""),
			"another range": damage(&n, ownLines, strings.ReplaceAll(ownLines, fmt.Sprint(ownMap.Base), "1000000")),
			"a killed walk": damage(&n, ownLines, "lock: mounted\n#phoenix%3A ids/103 1879113728%3A65536 from "+
				"100000%3A65536\n"),
			"a volume of before": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.Lchown(volume(), 100000, 100000))
			},
		},
		Foreign: func(t *testing.T, _ host.Host, _ object.Object) {
			must(t, os.Symlink("/elsewhere/lxc/103", n.path("claims", fmt.Sprint(ownMap.Base))))
		},
	})
}

// The walk keeps what changing an owner takes away, and leaves alone what is nobody's of the container's.
func TestIDsMove(t *testing.T) {
	n := newNode(t)
	n.before()
	n.tool("pct", "snapshot", "103", "old")
	x := n.idsThing(n.ids())
	if d := x.delta(); d.Action != plan.Update || !d.Interrupts || !d.Has("id_map") {
		t.Errorf("%+v", d)
	}
	n.forgetCalls()
	x.make()
	if calls := n.calls("pct "); len(calls) > 0 {
		t.Errorf("volumes that are directories need no %q", calls)
	}
	n.moved(n.volumeAt("rootfs"), n.volumeAt("mp0"))
	if m, err := n.host.Lstat(n.volumeAt("mp0") + "/key"); err != nil || m.UID != ownMap.Base+33 ||
		m.Mode&fs.ModeSetuid == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if first, rest, _ := strings.Cut(n.conf("103"), "\n[old]"); !strings.HasSuffix(first, ownLines) ||
		strings.Contains(rest, "idmap") {
		t.Errorf("the lines are not at the end of the first section:\n%s", n.conf("103"))
	}
	s := n.container()
	s.IDMap, s.Guest.Volumes[0].IDMap = ownMap, ownMap
	if d := n.containerThing(s).delta(); !d.Empty() {
		t.Errorf("the definition: %+v", d)
	}
	if d := n.volumeThing(s.Guest.Volumes[0]).delta(); !d.Empty() {
		t.Errorf("the volume: %+v", d)
	}

	// A rollback brings back files and file as they were; that is drift, which is mended with consent.
	n.tool("pct", "rollback", "103", "old")
	if c, _, _ := strings.Cut(n.conf("103"), "\n[old]"); strings.Contains(c, "idmap") {
		t.Fatalf("the stand-in's rollback keeps the lines:\n%s", c)
	}
	if left := outside(t, n.volumeAt("rootfs"), idMap); len(left) > 0 {
		t.Fatalf("the stand-in's rollback keeps owners: %q", left)
	}
	if d := x.delta(); !d.Interrupts || !d.Has("id_map") {
		t.Errorf("after a rollback: %+v", d)
	}
	stays := n.ids()
	stays.Stays = true
	if d := n.idsThing(stays).delta(); !d.Empty() {
		t.Errorf("without consent: %+v", d)
	}
	x.make()
	n.moved(n.volumeAt("rootfs"), n.volumeAt("mp0"))
}

// A container that runs is stopped, and one start with lines that nobody walked for leaves files of two more ranges
// behind.
func TestIDsMoveFromSeveral(t *testing.T) {
	n := newNode(t)
	n.house()
	n.runningThing().make()
	x := n.idsThing(n.ids())
	x.make()
	if len(n.calls("pct shutdown 103")) != 1 {
		t.Error("it was not stopped")
	}
	n.runningThing().make()
	n.tool("pct", "stop", "103")
	if _, err := os.Stat(n.path("mismatches")); err == nil {
		t.Errorf("it was started with files of another range: %s", n.read("mismatches"))
	}
	for _, text := range []string{strings.ReplaceAll(ownLines, fmt.Sprint(ownMap.Base), "1000000"), ""} {
		n.write(strings.Replace(n.conf("103"), ownLines, text, 1), "pve/lxc/103.conf")
		n.write("root:1000000:65536\n", "subuid")
		n.write("root:1000000:65536\n", "subgid")
		n.tool("pct", "start", "103")
		n.tool("pct", "stop", "103")
		if left := outside(t, n.volumeAt("rootfs"), ownMap); len(left) != 1 || n.read("mismatches") == "" {
			t.Fatalf("the stand-in leaves nothing behind: %q", left)
		}
		x.make()
		n.moved(n.volumeAt("rootfs"), n.volumeAt("mp0"))
	}
}

// On a storage whose volumes are images or devices Proxmox mounts them for the walk.
func TestIDsMoveOfImages(t *testing.T) {
	n := newNode(t)
	s := n.container()
	s.Guest.Volumes[0].Pool = "local-lvm"
	s.Guest.Storage = "local"
	n.containerThing(s).make()
	n.volumeThing(s.Guest.Volumes[0]).make()
	put(t, n.path("lvm/vm-103-disk-0/key"), 100033, 0o600)
	x := n.idsThing(n.ids())
	n.forgetCalls()
	x.make()
	root, volume := n.path("vz/images/103/vm-103-disk-0.raw.d"), n.path("lvm/vm-103-disk-0")
	n.moved(root, volume)
	calls := slices.DeleteFunc(n.calls("pct "), func(c string) bool { return !strings.Contains(c, "mount") })
	if !slices.Equal(calls, []string{"pct mount 103", "pct unmount 103"}) {
		t.Errorf("%q", calls)
	}
	// Killed while it was mounted.
	n.write(strings.Replace(n.conf("103"), ownLines, "", 1), "pve/lxc/103.conf")
	must(t, os.Lchown(filepath.Join(volume, "key"), 100033, 100033))
	n.tool("pct", "mount", "103")
	if d := x.delta(); !d.Has("id_map") {
		t.Errorf("%+v", d)
	}
	if err := x.try(); err == nil || !strings.Contains(err.Error(), "locked (mounted)") {
		t.Errorf("somebody else mounted it: %v", err)
	}
	n.write("#phoenix%3A ids/103 1879113728%3A65536 from 100000%3A65536\n"+n.conf("103"), "pve/lxc/103.conf")
	x.make()
	n.moved(root, volume)
}

// A container that is cloned from one with a range of its own brings the lines of that along.
func TestIDsOfAClone(t *testing.T) {
	n := newNode(t)
	n.tool("pct", "create", "900", "local:vztmpl/debian-12.tar.zst", "--rootfs", "local-zfs:2", "--hostname", "source")
	theirs := strings.ReplaceAll(ownLines, fmt.Sprint(ownMap.Base), "1000000")
	n.write(n.conf("900")+theirs, "pve/lxc/900.conf")
	must(t, filepath.WalkDir(n.path("zfs/subvol-900-disk-0"), func(path string, d fs.DirEntry, _ error) error {
		return os.Lchown(path, 1000000, 1000000)
	}))
	must(t, os.Chmod(n.path("zfs/subvol-900-disk-0/usr/su"), 0o755|fs.ModeSetuid))
	s := n.container()
	s.IDMap, s.Guest.Volumes[0].IDMap, s.Guest.Archive, s.Guest.CloneFrom = ownMap, ownMap, "", "900"
	ids := n.idsThing(n.ids())
	ids.make()
	n.containerThing(s).make()
	n.volumeThing(s.Guest.Volumes[0]).make()
	n.moved(n.volumeAt("rootfs"), n.volumeAt("mp0"))
	if left := outside(t, n.path("zfs/subvol-900-disk-0"), spec.IDMap{Base: 1000000, Count: 65536}); len(left) > 0 ||
		strings.Count(n.conf("900"), theirs) != 1 {
		t.Errorf("the source was changed: %q\n%s", left, n.conf("900"))
	}
	ssl := n.volumeAt("mp0")
	// It goes, its volume stays, and the one that is made later has the range of both.
	c := n.containerThing(s)
	must(t, c.d.Delete(context.Background(), n.host, c.o))
	if d := ids.delta(); !d.Empty() {
		t.Errorf("its range is not kept: %+v", d)
	}
	must(t, os.Lchown(ssl, 100000, 100000)) // one from before
	ids.make()
	c.make()
	n.volumeThing(s.Guest.Volumes[0]).make()
	if left := outside(t, ssl, ownMap); len(left) > 0 {
		t.Errorf("the volume that waited: %q", left)
	}
}

// A volume on a device that waited for its container, with the range that all had, is walked where Proxmox mounts it.
func TestIDsOfADeviceThatWaited(t *testing.T) {
	n := newNode(t)
	s := n.container()
	s.Guest.Volumes[0].Pool = "local-lvm"
	n.containerThing(s).make()
	n.volumeThing(s.Guest.Volumes[0]).make()
	key := n.path("lvm/vm-103-disk-0/key")
	put(t, key, 100033, 0o600)
	x := n.containerThing(s)
	must(t, x.d.Delete(context.Background(), n.host, x.o))
	s.IDMap, s.Guest.Volumes[0].IDMap = ownMap, ownMap
	n.idsThing(n.ids()).make()
	n.containerThing(s).make()
	n.volumeThing(s.Guest.Volumes[0]).make()
	if m, err := n.host.Lstat(key); err != nil || m.UID != ownMap.Base+33 {
		t.Errorf("%+v, %v", m, err)
	}
	n.moved(n.volumeAt("rootfs"), n.path("lvm/vm-103-disk-0"))
}

// Lines that map ids in parts are a person's: nobody can tell which id is to become which.
func TestIDsInParts(t *testing.T) {
	n := newNode(t)
	n.before()
	n.write(n.conf("103")+"lxc.idmap: u 0 100000 1000\nlxc.idmap: u 1000 1000 1\nlxc.idmap: g 0 100000 65536\n",
		"pve/lxc/103.conf")
	x, before := n.idsThing(n.ids()), n.conf("103")
	err := x.try()
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "in parts") || n.conf("103") != before {
		t.Errorf("%v\n%s", err, n.conf("103"))
	}
}

// A directory of the hypervisor that another container mounts too keeps its owners, and so does all of the container.
func TestIDsWithDirectories(t *testing.T) {
	n := newNode(t)
	s := n.container()
	put(t, n.path("srv/data/mine"), 100033, 0o600)
	put(t, n.path("srv/data/users"), 1000, 0o600)
	s.Guest.Binds = []spec.Mount{{Source: n.path("srv/data"), Target: "/data"}}
	n.containerThing(s).make()
	n.volumeThing(n.ssl()).make()
	own := n.ids()
	own.Binds = []string{n.path("srv/data")}
	for _, line := range []string{"mp0: " + n.path("srv") + ",mp=/x\n",
		"lxc.mount.entry: " + n.path("srv/data/in") + " x none bind 0 0\n"} {
		n.write("hostname: other\n"+line, "pve/lxc/555.conf")
		before := n.conf("103")
		x := n.idsThing(own)
		if d := x.delta(); !d.Has("mounted in another container too") {
			t.Errorf("%s: %+v", line, d)
		}
		if err := x.try(); !provider.IsPermanent(err) || !strings.Contains(err.Error(), "by container 555") ||
			n.conf("103") != before {
			t.Errorf("%s: %v", line, err)
		}
	}
	n.write("hostname: other\n", "pve/lxc/555.conf")
	n.idsThing(own).make()
	if left := outside(t, n.path("srv/data"), ownMap); !slices.Equal(left, []string{"", "/users"}) {
		t.Errorf("%q", left)
	}
}

// A container that is left half moved can be deleted, and says why it does not start.
func TestIDsHalfMoved(t *testing.T) {
	n := newNode(t)
	n.before()
	n.write("#phoenix%3A ids/103 1879113728%3A65536 from 100000%3A65536\nlock: mounted\n"+n.conf("103"),
		"pve/lxc/103.conf")
	if err := n.runningThing().try(); err == nil ||
		!strings.Contains(err.Error(), "being moved to another range of ids") {
		t.Errorf("%v", err)
	}
	c := n.containerThing(n.container())
	must(t, c.d.Delete(context.Background(), n.host, c.o))
	if _, err := os.Stat(n.path("pve/lxc/103.conf")); err == nil {
		t.Error("it is there")
	}
}

// Proxmox does not say why a container whose ids root was not given does not start.
func TestStartWithoutSubIDs(t *testing.T) {
	n := newNode(t)
	n.before()
	n.idsThing(n.ids()).make()
	for _, empty := range []string{"subuid", "subgid"} {
		n.write("ann:1879048192:268304384\n", empty)
		err := n.runningThing().try()
		if err == nil || !strings.Contains(err.Error(), "unable to get PID for CT 103 (not running?)") ||
			!strings.Contains(provider.Hint(err), "/run/pve/ct-103.stderr") {
			t.Errorf("without %s: %v (%s)", empty, err, provider.Hint(err))
		}
		must(t, os.Remove(n.path(empty)))
	}
	if why := n.read("lib/103/stderr"); !strings.Contains(why, "newgidmap: gid range [0-65536) -> "+
		"[1879113728-1879179264) not allowed") {
		t.Errorf("%q", why)
	}
	n.runningThing().make()
	if have := n.read("lib/103/config"); !strings.Contains(have, "lxc.idmap = u 0 1879113728 65536\n") {
		t.Errorf("it was given\n%s", have)
	}
}

func TestIDsSpec(t *testing.T) {
	p := spec.Proxmox{Dir: "/etc/pve", State: "/var/lib/lxc", Locks: "/run/lock"}
	good := spec.IDRange{ID: "103", Path: "/etc/pve/lxc", IDMap: ownMap, Claims: "/c", Proxmox: &p, Records: "/r"}
	for name, change := range map[string]func(*spec.IDRange){
		"the id": func(s *spec.IDRange) { s.ID = "../1" }, "no Proxmox": func(s *spec.IDRange) { s.Proxmox = nil },
		"a range": func(s *spec.IDRange) { s.IDMap = spec.IDMap{} }, "a path": func(s *spec.IDRange) { s.Claims = "c" },
		"records": func(s *spec.IDRange) { s.Records = "" },
	} {
		bad := good
		change(&bad)
		raw, err := json.Marshal(bad)
		must(t, err)
		if !pve.NewIDs().Decode(raw).HasErrors() {
			t.Errorf("%s: taken", name)
		}
	}
}
