package lxc_test

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
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/lxc"
)

// small is a container cloned from a tree of one file; it is defined and never runs.
func small(t *testing.T) (host.Host, object.Object) {
	top := directory(t)
	tree := filepath.Join(top, "templates/900/rootfs")
	must(t, os.MkdirAll(filepath.Join(tree, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "etc/os-release"), []byte("ID=small\n"), 0o644))
	binary := filepath.Join(top, "phoenix")
	must(t, os.WriteFile(binary, []byte("binary"), 0o600))
	return &host.Local{}, asObject(t, spec.KindContainer, "101", spec.Container{
		ID: "101", Name: "gateway", Path: filepath.Join(top, "lxc"), Template: tree, MemoryBytes: 64 << 20, Cores: 1,
		IDMap:     idMap,
		Interface: spec.NIC{Name: "eth0", Bridge: "vmbr0", Address: "10.0.0.101/24", Gateway: "10.0.0.1"},
		Mounts:    []spec.Mount{{Source: "/volumes/101/ssl", Target: "/etc/nginx/ssl"}},
		Programs: []spec.Program{{Source: binary, SHA256: strings.Repeat("ab", 32),
			Target: "/usr/local/lib/phoenix/phoenix"}},
	})
}

func decoded(t *testing.T, o object.Object) spec.Container {
	t.Helper()
	var s spec.Container
	must(t, json.Unmarshal(o.Spec, &s))
	return s
}

func home(t *testing.T, o object.Object) string {
	s := decoded(t, o)
	return filepath.Join(s.Path, s.ID)
}

func define(t *testing.T, o object.Object) {
	t.Helper()
	must(t, lxc.NewContainer().Apply(context.Background(), &host.Local{}, o, plan.Delta{Action: plan.Create}))
}

func TestContainerConformance(t *testing.T) {
	conformance.Isolated(t, "cp", "install")
	var top string
	configOf := func(t *testing.T, o object.Object) string { return filepath.Join(home(t, o), "config") }
	edit := func(change func(lines []string) []string) conformance.Damage {
		return func(t *testing.T, _ host.Host, o object.Object) {
			raw, err := os.ReadFile(configOf(t, o))
			must(t, err)
			must(t, os.WriteFile(configOf(t, o),
				[]byte(strings.Join(change(strings.SplitAfter(string(raw), "\n")), "")), 0o644))
		}
	}
	_, o := small(t)
	define(t, o)
	fields := []string{"home", "lxc.cap.keep"}
	raw, err := os.ReadFile(configOf(t, o))
	must(t, err)
	for line := range strings.Lines(string(raw)) { // every key that it has
		if key, _, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, "#") {
			fields = append(fields, key)
		}
	}
	conformance.Run(t, conformance.Case{
		Driver: lxc.NewContainer(), Volatile: []string{"config"}, Fields: fields,
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			h, o := small(t)
			top = filepath.Dir(filepath.Dir(home(t, o)))
			return h, o
		},
		State: conformance.Under(func() string { return top }),
		Break: map[string]conformance.Damage{
			"a lost configuration": func(t *testing.T, _ host.Host, o object.Object) {
				must(t, os.Remove(configOf(t, o)))
			},
			"a lost root file system": func(t *testing.T, _ host.Host, o object.Object) {
				must(t, os.RemoveAll(filepath.Join(home(t, o), "rootfs")))
			},
			"an open directory": func(t *testing.T, _ host.Host, o object.Object) {
				must(t, os.Chmod(home(t, o), 0o755))
			},
			"another key": edit(func(lines []string) []string {
				return append(lines, "lxc.cap.keep = sys_admin\n")
			}),
			"every value": edit(func(lines []string) []string {
				for i, line := range lines {
					if key, _, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, "#") {
						lines[i] = key + " = another\n"
					}
				}
				return lines
			}),
		},
		Foreign: func(t *testing.T, _ host.Host, o object.Object) {
			must(t, os.MkdirAll(home(t, o), 0o755))
			must(t, os.WriteFile(configOf(t, o), []byte("lxc.uts.name = somebody\n"), 0o644))
		},
		Tools: []string{"cp"},
	})
}

func TestCloneIsWholeAndClosed(t *testing.T) {
	conformance.Isolated(t, "cp", "install")
	h, o := small(t)
	define(t, o)
	if b, err := os.ReadFile(filepath.Join(home(t, o), "rootfs/etc/os-release")); err != nil ||
		string(b) != "ID=small\n" {
		t.Errorf("%q, %v", b, err)
	}
	m, err := h.Lstat(filepath.Join(home(t, o), "rootfs/usr/local/lib/phoenix/phoenix"))
	if err != nil || m.UID != 100000 || m.Mode.Perm() != 0o755 {
		t.Errorf("binary: %+v, %v", m, err)
	}
	m, err = h.Lstat(home(t, o))
	if err != nil || m.Mode.Perm() != 0o710 || m.UID != 0 || m.GID != 100000 {
		t.Errorf("home: %+v, %v", m, err)
	}
	left, err := os.ReadDir(filepath.Dir(home(t, o)))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCloneOnBtrfsIsASnapshot(t *testing.T) {
	conformance.Isolated(t, "btrfs", "mkfs.btrfs")
	top := directory(t)
	script := `set -e; cd "$1"; truncate -s 256M image; mkdir pool; mkfs.btrfs -q image; mount -o loop image pool
		btrfs -q subvolume create pool/tree; touch pool/tree/file`
	if out, err := exec.Command("sh", "-c", script, "sh", top).CombinedOutput(); err != nil {
		t.Skipf("no loop-mounted Btrfs here: %v\n%s", err, out)
	}
	t.Cleanup(func() { must(t, exec.Command("umount", filepath.Join(top, "pool")).Run()) })
	_, o := small(t)
	s := decoded(t, o)
	s.Template, s.Path = filepath.Join(top, "pool/tree"), filepath.Join(top, "pool/lxc")
	o = asObject(t, spec.KindContainer, s.ID, s)
	define(t, o)
	root := filepath.Join(home(t, o), "rootfs")
	if out, err := exec.Command("btrfs", "subvolume", "show", root).CombinedOutput(); err != nil {
		t.Errorf("not a snapshot: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(root, "file")); err != nil {
		t.Error(err)
	}
	must(t, lxc.NewContainer().Delete(context.Background(), &host.Local{}, o))
	if left, err := os.ReadDir(s.Path); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDeltaNamesWhatChanged(t *testing.T) {
	conformance.Isolated(t, "cp", "install")
	h, o := small(t)
	define(t, o)
	s := decoded(t, o)
	s.MemoryBytes, s.Mounts = 128<<20, nil
	obs, err := lxc.NewContainer().Observe(context.Background(), h, asObject(t, spec.KindContainer, "101", s))
	if err != nil || obs.Delta.Action != plan.Update || !obs.Delta.Has("lxc.cgroup2.memory.max") ||
		!obs.Delta.Has("lxc.mount.entry") || obs.Delta.Has("lxc.uts.name") {
		t.Errorf("%+v, %v", obs.Delta, err)
	}
}

func TestAnothersContainerIsRefused(t *testing.T) {
	conformance.Isolated(t, "cp")
	h, o := small(t)
	must(t, os.MkdirAll(filepath.Join(home(t, o), "rootfs"), 0o755))
	must(t, os.WriteFile(filepath.Join(home(t, o), "config"), []byte("lxc.uts.name = mine\n"), 0o644))
	for what, err := range map[string]error{
		"apply":  lxc.NewContainer().Apply(context.Background(), h, o, plan.Delta{Action: plan.Create}),
		"delete": lxc.NewContainer().Delete(context.Background(), h, o),
	} {
		if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "not made by phoenix") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestContainerDecode(t *testing.T) {
	_, o := small(t)
	good := decoded(t, o)
	for name, tc := range map[string]struct {
		change func(*spec.Container)
		bad    bool
	}{
		"good":          {func(*spec.Container) {}, false},
		"a second line": {func(s *spec.Container) { s.Name = "x\nlxc.cap.keep = sys_admin" }, true},
		"a way out":     {func(s *spec.Container) { s.ID = "../101" }, true},
		"no name":       {func(s *spec.Container) { s.Name = "" }, true},
		"an option of two lines": {func(s *spec.Container) {
			s.Options = []spec.Option{{Key: "lxc.tty.max", Value: "1\nlxc.cap.keep = sys_admin"}}
		}, true},
		"a target twice": {func(s *spec.Container) {
			s.Mounts = []spec.Mount{{Source: "/a", Target: "/m"}, {Source: "/b", Target: "/m"}}
		}, true},
		"a source twice": {func(s *spec.Container) {
			s.Mounts = []spec.Mount{{Source: "/a", Target: "/m"}, {Source: "/a", Target: "/n"}}
		}, false}, // the audit tells of it
		"a trailing slash": {func(s *spec.Container) { s.Mounts = []spec.Mount{{Source: "/a/", Target: "/m"}} },
			true},
		"a device elsewhere": {func(s *spec.Container) { s.Devices = []spec.Device{{Path: "/srv/tun"}} }, true},
		"a relative target":  {func(s *spec.Container) { s.Mounts = []spec.Mount{{Source: "/a", Target: "m"}} }, true},
	} {
		s := good
		tc.change(&s)
		if got := lxc.NewContainer().Decode(asObject(t, spec.KindContainer, "101", s).Spec).HasErrors(); got != tc.bad {
			t.Errorf("%s: errors %t, want %t", name, got, tc.bad)
		}
	}
}
