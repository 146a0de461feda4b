package dir_test

import (
	"context"
	"encoding/json"
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
			"a removed folder": func(t *testing.T, _ host.Host, o object.Object) { must(t, os.Remove(path(t, o))) },
			"a lost mark": func(t *testing.T, _ host.Host, o object.Object) {
				must(t, exec.Command("setfattr", "-x", "trusted.phoenix.address", path(t, o)).Run())
			},
		},
		Foreign: func(t *testing.T, h host.Host, o object.Object) {
			make1(t, h, volume(t, path(t, o), "102", "certs"))
			write(t, h, o)
		},
		Tools: []string{"getfattr", "setfattr"},
		Fill:  write,
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
		t.Errorf("an unmarked folder: %v", err)
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

func TestLinkIsRefused(t *testing.T) {
	h, o := fresh(t)
	p := path(t, o)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.Symlink("/etc", p))
	if _, err := dir.New().Observe(context.Background(), h, o); err == nil || !strings.Contains(err.Error(), "is not a folder") {
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
