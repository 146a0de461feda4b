package btrfs_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/btrfs"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

// pool is a Btrfs file system in a file.
func pool(t *testing.T) string {
	t.Helper()
	conformance.Isolated(t, "btrfs", "mkfs.btrfs", "getfattr", "setfattr")
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "pool")
	for _, argv := range [][]string{
		{"mkdir", mount}, {"truncate", "-s", "256M", image}, {"mkfs.btrfs", "-q", image},
		{"mount", "-o", "loop", image, mount},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no loop-mounted Btrfs here: %v\n%s", err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return mount
}

func spec1(path string) spec.Volume {
	return spec.Volume{Container: "101", Name: "ssl", Path: path, MountPoint: "/etc/nginx/ssl", SizeBytes: 32 << 20,
		UID: 33, Mode: 0o700, IDMap: spec.IDMap{Base: 100000, Count: 65536}}
}

func asObject(t *testing.T, v spec.Volume) object.Object {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	return object.Object{Address: "volume/101/ssl", Provider: "btrfs", Spec: raw}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

func apply(t *testing.T, h host.Host, v spec.Volume) error {
	t.Helper()
	obs, err := btrfs.New().Observe(context.Background(), h, asObject(t, v))
	must(t, err)
	return btrfs.New().Apply(context.Background(), h, asObject(t, v), obs.Delta)
}

// settled demands that there is nothing left to do.
func settled(t *testing.T, h host.Host, v spec.Volume) {
	t.Helper()
	obs, err := btrfs.New().Observe(context.Background(), h, asObject(t, v))
	must(t, err)
	if !obs.Delta.Empty() {
		t.Errorf("still to do: %+v", obs.Delta)
	}
}

func TestConformance(t *testing.T) {
	mount := pool(t)
	var path string
	fresh := func(t *testing.T) (host.Host, object.Object) {
		dir, err := os.MkdirTemp(mount, "root")
		must(t, err)
		path = filepath.Join(dir, "volumes/101/ssl")
		return &host.Local{}, asObject(t, spec1(path))
	}
	conformance.Run(t, conformance.Case{
		Driver: btrfs.New(), Fresh: fresh, Volatile: []string{"path", "used"},
		Fields: []string{"uid", "gid", "mode", "parent", "address", "limit"},
		State:  conformance.Under(func() string { return filepath.Dir(filepath.Dir(filepath.Dir(path))) }),
		Break: map[string]conformance.Damage{
			"a wide mode": func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.Chmod(path, 0o755)) },
			"an owner":    func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.Chown(path, 0, 0)) },
			"an open parent": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.Chmod(filepath.Dir(path), 0o755))
			},
			"a lost mark": func(t *testing.T, _ host.Host, _ object.Object) {
				command(t, "setfattr", "-x", "trusted.phoenix.address", path)
			},
			"a lost subvolume": func(t *testing.T, _ host.Host, _ object.Object) {
				command(t, "btrfs", "subvolume", "delete", path)
			},
			"another limit": func(t *testing.T, _ host.Host, _ object.Object) {
				command(t, "btrfs", "qgroup", "limit", "8M", path)
			},
			"no quotas": func(t *testing.T, _ host.Host, _ object.Object) {
				command(t, "btrfs", "quota", "disable", mount)
			},
		},
		Foreign: func(t *testing.T, h host.Host, o object.Object) {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			command(t, "btrfs", "subvolume", "create", path)
			command(t, "setfattr", "-n", "trusted.phoenix.address", "-v", "volume/102/certs", path)
		},
		Tools: []string{"btrfs"},
		Fill: func(t *testing.T, _ host.Host, _ object.Object) {
			must(t, os.WriteFile(filepath.Join(path, "key"), []byte("k"), 0o600))
		},
		Filled: func(t *testing.T, _ host.Host, _ object.Object) {
			if b, err := os.ReadFile(filepath.Join(path, "key")); string(b) != "k" {
				t.Errorf("%q, %v", b, err)
			}
		},
	})
}

func TestLimitIsKept(t *testing.T) {
	v, h := spec1(filepath.Join(pool(t), "volumes/101/ssl")), &host.Local{}
	must(t, apply(t, h, v))
	data := make([]byte, 20<<20)
	must(t, os.WriteFile(filepath.Join(v.Path, "data"), data, 0o600))
	more, err := os.Create(filepath.Join(v.Path, "more"))
	must(t, err)
	_, err = more.Write(data)
	if err == nil {
		err = more.Sync()
	}
	_ = more.Close() // what counts is the write
	if !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("40 MiB on a volume of 32: %v", err)
	}
	must(t, os.Remove(more.Name()))
	command(t, "sync", "-f", v.Path)

	v.SizeBytes = 8 << 20
	err = apply(t, h, v)
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "cannot be limited to 8 MiB: 20.") ||
		provider.Hint(err) == "" {
		t.Errorf("shrinking below what is used: %v", err)
	}
	for i := range 5 {
		v.SizeBytes = int64(30-i) << 20
		must(t, apply(t, &later{Local: h, by: i}, v))
		settled(t, h, v)
	}
	kept := filepath.Join(filepath.Dir(filepath.Dir(v.Path)), ".kept")
	names, err := os.ReadDir(kept)
	if err != nil || len(names) != 3 {
		t.Errorf("snapshots: %v, %v", names, err)
	}
	if m, err := h.Lstat(kept); err != nil || m.Mode.Perm() != 0o700 || m.UID != 0 {
		t.Errorf("the directory of the snapshots: %+v, %v", m, err)
	}
	v.SizeBytes = 0
	must(t, apply(t, h, v))
	settled(t, h, v)
	must(t, os.WriteFile(filepath.Join(v.Path, "more"), make([]byte, 40<<20), 0o600))
}

// later is a host whose clock is ahead by minutes.
type later struct {
	*host.Local
	by int
}

func (l *later) Now() time.Time { return l.Local.Now().Add(time.Duration(l.by) * time.Minute) }

func TestDeleteAndBack(t *testing.T) {
	v, h, ctx := spec1(filepath.Join(pool(t), "volumes/101/ssl")), &host.Local{}, context.Background()
	o := asObject(t, v)
	write := func(text string) { must(t, os.WriteFile(filepath.Join(v.Path, "key"), []byte(text), 0o600)) }
	for _, text := range []string{"first", "second"} {
		must(t, apply(t, h, v))
		command(t, "btrfs", "subvolume", "show", v.Path)
		write(text)
		for range 2 {
			must(t, btrfs.New().Delete(ctx, h, o))
		}
		if _, err := os.Stat(filepath.Dir(v.Path)); err == nil {
			t.Error("the directory is still there")
		}
	}
	kept, _ := provider.KeptBy(btrfs.New(), o)
	command(t, "sh", "-c", kept.Restore)
	must(t, apply(t, h, v))
	settled(t, h, v)
	if b, err := os.ReadFile(filepath.Join(v.Path, "key")); string(b) != "second" {
		t.Errorf("brought back: %q, %v", b, err)
	}
	must(t, btrfs.New().Delete(ctx, h, o))
	must(t, provider.Forget(ctx, btrfs.New(), h, o))
	if left, err := os.ReadDir(filepath.Dir(filepath.Dir(v.Path))); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPlainDirectoryIsRefused(t *testing.T) {
	v := spec1(filepath.Join(pool(t), "101/ssl"))
	must(t, os.MkdirAll(v.Path, 0o700))
	_, err := btrfs.New().Observe(context.Background(), &host.Local{}, asObject(t, v))
	if err == nil || !strings.Contains(err.Error(), "not a subvolume") {
		t.Errorf("got %v", err)
	}
}
