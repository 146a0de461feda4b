package dir_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/dir"
)

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

func volume(t *testing.T, path, container, name string) object.Object {
	t.Helper()
	raw, err := json.Marshal(spec.Volume{Container: container, Name: name, Path: path, MountPoint: "/etc/nginx/ssl",
		UID: 33, Mode: 0o700, IDMap: spec.IDMap{Base: 100000, Count: 65536}})
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: object.NewAddress(spec.KindVolume, container, name), Provider: "dir", Spec: raw}
}

func fresh(t *testing.T) (host.Host, object.Object) {
	return &host.Local{}, volume(t, filepath.Join(t.TempDir(), "volumes/101/ssl"), "101", "ssl")
}

func path(t *testing.T, o object.Object) string {
	t.Helper()
	var v spec.Volume
	if err := json.Unmarshal(o.Spec, &v); err != nil {
		t.Fatal(err)
	}
	return v.Path
}

func make1(t *testing.T, h host.Host, o object.Object) string {
	t.Helper()
	if err := dir.New().Apply(context.Background(), h, o, plan.Delta{Action: plan.Create}); err != nil {
		t.Fatal(err)
	}
	return path(t, o)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	var top string
	write := func(t *testing.T, h host.Host, o object.Object) {
		must(t, os.WriteFile(filepath.Join(path(t, o), "key"), []byte("k"), 0o600))
	}
	conformance.Run(t, conformance.Case{
		Driver: dir.New(), Volatile: []string{"path"}, Fields: []string{"uid", "gid", "mode", "parent", "address"},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			h, o := fresh(t)
			top = filepath.Dir(filepath.Dir(filepath.Dir(path(t, o))))
			return h, o
		},
		State: conformance.Under(func() string { return top }),
		Break: map[string]conformance.Damage{
			"a wide mode": func(t *testing.T, _ host.Host, o object.Object) { must(t, os.Chmod(path(t, o), 0o755)) },
			"an owner":    func(t *testing.T, _ host.Host, o object.Object) { must(t, os.Chown(path(t, o), 0, 0)) },
			"a group":     func(t *testing.T, _ host.Host, o object.Object) { must(t, os.Chown(path(t, o), -1, 0)) },
			"an open parent": func(t *testing.T, _ host.Host, o object.Object) {
				must(t, os.Chmod(filepath.Dir(path(t, o)), 0o755))
			},
			"a removed directory": func(t *testing.T, _ host.Host, o object.Object) { must(t, os.Remove(path(t, o))) },
			"a lost mark": func(t *testing.T, _ host.Host, o object.Object) {
				must(t, exec.Command("setfattr", "-x", "trusted.phoenix.address", path(t, o)).Run())
			},
		},
		Foreign: func(t *testing.T, h host.Host, o object.Object) {
			make1(t, h, volume(t, path(t, o), "102", "certs"))
			write(t, h, o)
		},
		Fill: write,
	})
}

func TestOwnersThroughTheMap(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	h, o := fresh(t)
	p := make1(t, h, o)
	m, err := h.Lstat(p)
	if err != nil || m.UID != 100033 || m.GID != 100000 || m.Mode.Perm() != 0o700 {
		t.Errorf("volume: %+v, %v", m, err)
	}
	m, err = h.Lstat(filepath.Dir(p))
	if err != nil || m.UID != 0 || m.GID != 100000 || m.Mode.Perm() != 0o710 {
		t.Errorf("parent: %+v, %v", m, err)
	}
}

func TestContentIsKept(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	h, o := fresh(t)
	p := path(t, o)
	must(t, os.MkdirAll(p, 0o755))
	must(t, os.WriteFile(filepath.Join(p, "key"), []byte("k"), 0o644))
	make1(t, h, o)
	if b, err := os.ReadFile(filepath.Join(p, "key")); err != nil || string(b) != "k" {
		t.Errorf("%q, %v", b, err)
	}
	if m, err := h.Lstat(filepath.Join(p, "key")); err != nil || m.Mode.Perm() != 0o644 || m.UID != 0 {
		t.Errorf("what is inside was changed: %+v, %v", m, err)
	}
}

func TestAnothersVolumeIsRefused(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	h, o := fresh(t)
	p := make1(t, h, o)
	other := volume(t, p, "102", "certs")
	for what, err := range map[string]error{
		"apply":  dir.New().Apply(context.Background(), h, other, plan.Delta{Action: plan.Create}),
		"delete": dir.New().Delete(context.Background(), h, other),
	} {
		if err == nil || !strings.Contains(err.Error(), "belongs to volume/101/ssl") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestDelete(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	h, o := fresh(t)
	p := make1(t, h, o)
	must(t, os.WriteFile(filepath.Join(p, "key"), []byte("k"), 0o600))
	for range 2 {
		must(t, dir.New().Delete(context.Background(), h, o))
	}
	if _, err := os.Stat(filepath.Dir(p)); err == nil {
		t.Error("the empty parent was left behind")
	}
	must(t, os.MkdirAll(p, 0o755))
	if err := dir.New().Delete(context.Background(), h, o); err == nil || !strings.Contains(err.Error(), "not marked") {
		t.Errorf("an unmarked directory: %v", err)
	}
}

func TestDeleteKilledAnywhere(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	for at := 1; at <= 3; at++ {
		h, o := fresh(t)
		p := make1(t, h, o)
		must(t, os.WriteFile(filepath.Join(p, "key"), []byte("k"), 0o600))
		if err := dir.New().Delete(context.Background(), &host.Faulty{Host: h, At: at}, o); err == nil && at == 1 {
			t.Error("a failed change was not reported")
		}
		if _, err := os.Stat(p); err == nil {
			if _, err := os.Stat(filepath.Join(p, "key")); err != nil {
				t.Errorf("killed at %d: half a volume is left in place", at)
			}
		}
		must(t, dir.New().Delete(context.Background(), h, o))
		if left, err := os.ReadDir(filepath.Dir(p)); err == nil && len(left) > 0 {
			t.Errorf("killed at %d: left behind %v", at, left)
		}
	}
}

// theirs is a directory of the users' own, as it might be: open, of an ordinary user, in an open directory.
func theirs(t *testing.T, said spec.HostDirectory, keys bool) (host.Host, object.Object, string) {
	t.Helper()
	p := filepath.Join(t.TempDir(), "srv", "media")
	must(t, os.MkdirAll(p, 0o755))
	must(t, os.Chmod(filepath.Dir(p), 0o777))
	must(t, os.Chown(p, 1000, 1001))
	must(t, os.Chmod(p, 0o775|os.ModeSetgid))
	must(t, os.WriteFile(filepath.Join(p, "film"), []byte("f"), 0o644))
	o := volume(t, p, "101", "media")
	var v spec.Volume
	must(t, json.Unmarshal(o.Spec, &v))
	v.HostDirectory, v.Keys = &said, keys
	raw, err := json.Marshal(v)
	must(t, err)
	o.Spec = raw
	return &host.Local{}, o, p
}

// A directory of the users' own is not changed, not marked and never removed.
func TestUsersOwnIsNotChanged(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	h, o, p := theirs(t, spec.HostDirectory{}, false)
	before, err := h.Lstat(p)
	must(t, err)
	counted := host.NewCounted(h, nil)
	obs, err := dir.New().Observe(context.Background(), counted, o)
	if err != nil || !obs.Delta.Empty() {
		t.Fatalf("%+v, %v", obs.Delta, err)
	}
	must(t, dir.New().Apply(context.Background(), counted, o, plan.Delta{Action: plan.Update}))
	must(t, dir.New().Delete(context.Background(), counted, o))
	if n := counted.Mutations(); n != 0 {
		t.Errorf("%d changes", n)
	}
	after, err := h.Lstat(p)
	if err != nil || before.Mode != after.Mode || before.UID != after.UID || before.GID != after.GID {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
	if out, err := exec.Command("getfattr", "--absolute-names", "-d", "-m", "trusted",
		p).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("marked: %s %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(p, "film")); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(filepath.Dir(p)); err != nil || fi.Mode().Perm() != 0o777 {
		t.Errorf("the parent: %v, %v", fi.Mode(), err)
	}
}

// One that phoenix marked as its own before is not removed either.
func TestUsersOwnIsNotRemovedByAnOldMark(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	h, o, p := theirs(t, spec.HostDirectory{}, false)
	must(t, exec.Command("setfattr", "-n", "trusted.phoenix.address", "-v", "volume/101/media", p).Run())
	must(t, dir.New().Delete(context.Background(), h, o))
	if _, err := os.Stat(filepath.Join(p, "film")); err != nil {
		t.Error(err)
	}
}

// What the file says is set, and nothing else.
func TestUsersOwnIsSetAsSaid(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	for said, want := range map[spec.HostDirectory]string{
		{UID: true}:                        "100033:1001 775",
		{GID: true}:                        "1000:100000 775",
		{Mode: true}:                       "1000:1001 700",
		{UID: true, GID: true, Mode: true}: "100033:100000 700",
	} {
		h, o, p := theirs(t, said, false)
		obs, err := dir.New().Observe(context.Background(), h, o)
		must(t, err)
		must(t, dir.New().Apply(context.Background(), h, o, obs.Delta))
		m, err := h.Lstat(p)
		if got := fmt.Sprintf("%d:%d %o", m.UID, m.GID, m.Mode.Perm()); err != nil || got != want {
			t.Errorf("%+v: %s, want %s, %v", said, got, want, err)
		}
		if obs, err = dir.New().Observe(context.Background(), h, o); err != nil || !obs.Delta.Empty() {
			t.Errorf("%+v: a second time %+v, %v", said, obs.Delta, err)
		}
	}
}

// Keys do not go where others could take them, and the words say how that is mended.
func TestUsersOwnThatCannotHoldKeys(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	h, o, p := theirs(t, spec.HostDirectory{}, true)
	want := func(what string) {
		t.Helper()
		_, err := dir.New().Observe(context.Background(), h, o)
		if what == "" && err != nil || what != "" && (err == nil || !strings.Contains(err.Error(), what)) {
			t.Errorf("got %v, want %q", err, what)
		}
	}
	want("belongs to 1000, not to 100033")
	must(t, os.Chown(p, 100033, 100033))
	want("others can change it")
	must(t, os.Chmod(p, 0o755))
	want("")
	must(t, os.RemoveAll(p))
	want("is not there any more")
}

func TestLinkIsRefused(t *testing.T) {
	h, o := fresh(t)
	p := path(t, o)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.Symlink("/etc", p))
	if _, err := dir.New().Observe(context.Background(), h, o); err == nil ||
		!strings.Contains(err.Error(), "is not a directory") {
		t.Errorf("got %v", err)
	}
}

func TestNoAttributesHere(t *testing.T) {
	conformance.Isolated(t, "getfattr", "setfattr")
	o := volume(t, "/proc/sys", "101", "ssl") // proc keeps no extended attributes
	obs, err := dir.New().Observe(context.Background(), &host.Local{}, o)
	if err != nil || !strings.Contains(string(obs.Status), `"unmarkable":true`) || obs.Delta.Has("address") {
		t.Errorf("%s %+v %v", obs.Status, obs.Delta, err)
	}
}

func TestDecode(t *testing.T) {
	for raw, bad := range map[string]bool{
		`{"container":"101","name":"ssl","path":"/v/101/ssl","mount_point":"/m","uid":0,"gid":0,"mode":"0700","id_map":{}}`: false,
		`{"container":"101","name":"ssl","path":"v","mount_point":"/m","uid":0,"gid":0,"mode":"0700","id_map":{}}`:          true,
		`{"container":"101","name":"ssl","path":"/","mount_point":"/m","uid":0,"gid":0,"mode":"0700","id_map":{}}`:          true,
		`{"container":"","name":"ssl","path":"/v/x","mount_point":"/m","uid":0,"gid":0,"mode":"0700","id_map":{}}`:          true,
	} {
		if got := dir.New().Decode(json.RawMessage(raw)).HasErrors(); got != bad {
			t.Errorf("%s: errors %t, want %t", raw, got, bad)
		}
	}
}
