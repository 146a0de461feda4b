package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// twoMounts are containers 101 and 102, each with one mount point.
func twoMounts(one, two string) []File {
	files := mounting("/data/a", "/a", "")
	text := string(files[0].Data)
	text = strings.Replace(text, `{"host_path": "/data/a",
      "container_path": "/a"}`, one, 1)
	files[0].Data = []byte(strings.Replace(text, `{"host_path": "/data/b", "container_path": "/b"}`, two, 1))
	return files
}

func point(hostPath, target, more string) string {
	return fmt.Sprintf(`{"host_path": %q, "container_path": %q%s}`, hostPath, target, more)
}

// said is whether a diagnostic of that severity speaks of all words.
func said(diags diag.List, s diag.Severity, words ...string) bool {
	return slices.ContainsFunc(diags, func(d diag.Diagnostic) bool {
		return d.Severity == s && !slices.ContainsFunc(words,
			func(w string) bool { return !strings.Contains(d.Summary+d.Hint, w) })
	})
}

func onHere(t *testing.T, files []File, change func(*Machine)) (*Config, Machine) {
	t.Helper()
	cfg, diags := Load(files)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	m := machine
	m.Present, m.Kinds = map[string]bool{}, map[string]string{}
	for _, p := range Wanted(cfg, nil) {
		m.Present[p], m.Kinds[p] = true, aDirectory
	}
	m.Kinds["/t.tar"] = aFile
	if change != nil {
		change(&m)
	}
	return cfg, m
}

func TestTrailingSlashesAreTakenOff(t *testing.T) {
	cfg, m := onHere(t, twoMounts(point("/data/a/", "/srv/a/", ""), point("/data/b", "/b", "")), nil)
	objects, diags := Derive(cfg, m)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	if got := get[spec.Container](t, objects, "container/101").Mounts; !slices.Equal(got,
		[]spec.Mount{{Source: "/data/a", Target: "/srv/a"}}) {
		t.Errorf("mounts %+v", got)
	}
}

// One directory is seen by two containers where both say so, read-only unless they say otherwise, and does not go along
// with the ids of either.
func TestShare(t *testing.T) {
	share := `, "share": true`
	cfg, m := onHere(t, twoMounts(point("/tank/media", "/media", share),
		point("/tank/media", "/films", share+`, "read_only": false`)), func(m *Machine) { m.IDs.Move = true })
	objects, diags := Derive(cfg, m)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	for id, want := range map[string]spec.Mount{
		"101": {Source: "/tank/media", Target: "/media", ReadOnly: true}, "102": {Source: "/tank/media",
			Target: "/films"}} {
		got := get[spec.Container](t, objects, object.NewAddress(spec.KindContainer, id)).Mounts
		if !slices.Equal(got, []spec.Mount{want}) {
			t.Errorf("%s: %+v", id, got)
		}
	}
	if v := get[spec.Volume](t, objects, "volume/101/media"); v.HostDirectory == nil || !v.HostDirectory.Shared {
		t.Errorf("%+v", v)
	}
	for _, o := range objects {
		if o.Address.Kind() == spec.KindIDs && strings.Contains(string(o.Spec), "/tank/media") {
			t.Errorf("%s takes the files along: %s", o.Address, o.Spec)
		}
	}
	_, m = onHere(t, twoMounts(point("/tank/media", "/media", share), point("/tank/other", "/films", share)),
		func(m *Machine) {
			m.KeysBelow = map[string]string{"/tank/media": "/tank/media/old/site.key"}
		})
	if _, diags = Derive(cfg, m); !said(diags, diag.Error, "/tank/media/old/site.key", "101", "share") {
		t.Errorf("a key is shared: %v", diags)
	}
}

func TestWhatIsNotShared(t *testing.T) {
	share := `, "share": true`
	for what, f := range map[string][]File{
		"one of two says so": twoMounts(point("/tank/media", "/media", share), point("/tank/media", "/films", "")),

		"with an owner":          twoMounts(point("/tank/media", "/media", share+`, "owner_uid": 5`), point("/b", "/b", "")),
		"with a mode":            twoMounts(point("/tank/media", "/media", share+`, "mode": "0700"`), point("/b", "/b", "")),
		"the system's":           twoMounts(point("/etc/ssl", "/media", share), point("/etc/ssl", "/films", share)),
		"where keys are written": keysIn(`"share": true`), "read-only keys": keysIn(`"read_only": true`),
	} {
		if _, diags := Load(f); !diags.HasErrors() {
			t.Errorf("%s: taken", what)
		}
	}
	_, diags := Load(twoMounts(point("/tank/media", "/media", share), point("/tank/media/films", "/films", share)))
	if diags.HasErrors() {
		t.Errorf("a part that is shared, too: %v", diags)
	}
}

func keysIn(more string) []File {
	return mounting("/data/a", "/keys", `"certificates": [{"common_name": "a.example", "cert_path": "/keys/a.crt",
    "key_path": "/keys/sub/a.key"}], "mount_points": [{"host_path": "/data/a", "container_path": "/keys",
    `+more+`}], "x-":`)
}

// What is mounted below a directory is seen with it, and judged as it is.
func TestMountedBelow(t *testing.T) {
	set := func(dir string, b ...Below) func(*Machine) {
		return func(m *Machine) {
			m.Below = map[string][]Below{dir: b}
			m.Locations = Locations{"/state": {"8:1/state"}, "/data/b": {"8:1/data/b"}, "/etc/passwd": {"8:1/etc/passwd"}}
			m.Root = "/state"
		}
	}
	dataset := Below{Point: "/data/a/films", Location: "0:51", Type: "zfs"}
	plain, readOnly := point("/data/a", "/a", ""), point("/data/a", "/a", `, "read_only": true`)
	for what, x := range map[string]struct {
		one, two string
		machine  func(*Machine)
		words    []string // none: it is taken
	}{
		"a child dataset": {plain, point("/data/b", "/b", ""), set("/data/a", dataset), nil},
		"a child dataset of a read-only one": {readOnly, point("/data/b", "/b", ""), set("/data/a", dataset),
			[]string{"/data/a/films", "read_only", "101"}},
		"the kernel's": {plain, point("/data/b", "/b", ""), set("/data/a", Below{"/data/a/p", "0:3", "proc"}),
			[]string{"/data/a/p", "proc", "kernel"}},
		"phoenix's own": {plain, point("/data/b", "/b", ""), set("/data/a", Below{"/data/a/r", "8:1/state", "ext4"}),
			[]string{"/data/a/r", "/state", "phoenix"}},
		"all of the disk": {plain, point("/data/b", "/b", ""), set("/data/a", Below{"/data/a/r", "8:1", "ext4"}),
			[]string{"/data/a/r"}},
		"another container's": {plain, point("/data/b", "/b", ""), set("/data/a", Below{"/data/a/o", "8:1/data/b/x", "ext4"}),
			[]string{"/data/a", "/data/b", "101", "102"}},
		"another container's, the other way round": {point("/data/b", "/b", ""), plain,
			set("/data/a", Below{"/data/a/o", "8:1/data/b/x", "ext4"}), []string{"/data/a", "/data/b", "101", "102"}},
		"what both share": {point("/data/a", "/a", `, "share": true, "read_only": false`),
			point("/data/b", "/b", `, "share": true`), set("/data/a", Below{"/data/a/o", "8:1/data/b/x", "ext4"}), nil},
	} {
		cfg, m := onHere(t, twoMounts(x.one, x.two), x.machine)
		_, diags := Derive(cfg, m)
		if len(x.words) == 0 && diags.HasErrors() || len(x.words) > 0 && !said(diags, diag.Error, x.words...) {
			t.Errorf("%s: %v", what, diags)
		}
	}
}

// A link is refused with where it leads, a path over one is what it leads to.
func TestLinksAsHostPath(t *testing.T) {
	files := twoMounts(point("/data/a", "/a", ""), point("/data/b", "/b", ""))
	cfg, m := onHere(t, files, func(m *Machine) {
		m.Kinds["/data/a"], m.Links = aLink, map[string]string{"/data/a": "../tank/a"}
		m.Locations = Locations{"/data/a": {"/tank/a", "0:5/a"}}
	})
	if _, diags := Derive(cfg, m); !said(diags, diag.Error, "/data/a is a symbolic link to ../tank/a", "write /tank/a") {
		t.Errorf("%v", diags)
	}
	cfg, m = onHere(t, files, func(m *Machine) { m.Locations = Locations{"/data/a": {"/tank/data/a", "0:5/a"}} })
	objects, diags := Derive(cfg, m)
	if diags.HasErrors() || get[spec.Container](t, objects, "container/101").Mounts[0].Source != "/tank/data/a" {
		t.Errorf("not pinned: %v", diags)
	}
}

func TestDevices(t *testing.T) {
	file := func(list string) []File {
		return mounting("/data/a", "/a", `"devices": `+list+`,`)
	}
	for _, bad := range []string{"/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/mapper/x", "/dev/dri/../sda", "tun",
		"/dev/net",
		"/dev/net/tun/x", "/dev/null\n", "/dev", "/etc/passwd", "/dev/loop0", "/dev/disk/by-id/x", ""} {
		if _, diags := Load(file(fmt.Sprintf("[%q]", bad))); !diags.HasErrors() {
			t.Errorf("%q is given", bad)
		}
	}
	cfg, m := onHere(t, file(`["/dev/net/tun", "/dev/dri/", "/dev/kvm"]`), func(m *Machine) {
		m.Devices = map[string][]spec.Device{"/dev/net/tun": {{Path: "/dev/net/tun", Major: 10, Minor: 200}},
			"/dev/dri": {{Path: "/dev/dri/renderD128", Major: 226, Minor: 128}, {Path: "/dev/dri/card0", Major: 226}}}
	})
	objects, diags := Derive(cfg, m)
	if diags.HasErrors() || !said(diags, diag.Warning, "/dev/kvm", "modprobe kvm_intel") {
		t.Errorf("%v", diags)
	}
	want := []spec.Device{{Path: "/dev/dri/card0", Major: 226}, {Path: "/dev/dri/renderD128", Major: 226, Minor: 128},
		{Path: "/dev/kvm", Missing: true}, {Path: "/dev/net/tun", Major: 10, Minor: 200}}
	if got := get[spec.Container](t, objects, "container/101").Devices; !slices.Equal(got, want) {
		t.Errorf("devices %+v", got)
	}
	m.Proxmox = &spec.Proxmox{Dir: "/etc/pve"}
	m.Storages = []Storage{{ID: "local", Type: "dir", Path: "/store", Content: []string{"rootdir"}}}
	objects, _ = Derive(cfg, m)
	g := get[spec.Container](t, objects, "container/101").Guest
	if !g.Listed || !slices.Equal(g.Missing, []string{"/dev/kvm"}) ||
		!slices.Equal(g.Devices, []string{"/dev/dri/card0", "/dev/dri/renderD128", "/dev/net/tun"}) {
		t.Errorf("on Proxmox: %+v", g)
	}
}
