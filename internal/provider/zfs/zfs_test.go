package zfs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/dir"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/zfs"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer removePool()
	return conformance.Isolate(m)
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

// house is a dataset that is a pool for volumes, and a root directory.
type house struct {
	t          *testing.T
	pool, root string
	host       host.Host
}

var houses atomic.Int64

func newHouse(t *testing.T) *house {
	t.Helper()
	top := testPool(t)
	root := t.TempDir()
	h := &house{t: t, pool: fmt.Sprintf("%s/n%d", top, houses.Add(1)), root: root, host: &host.Local{}}
	command(t, "zfs", "create", "-o", "mountpoint=none", h.pool)
	t.Cleanup(func() { command(t, "zfs", "destroy", "-r", h.pool) })
	return h
}

func (h *house) spec(container, name string) spec.Volume {
	return spec.Volume{Container: container, Name: name, Pool: h.pool,
		Path: filepath.Join(h.root, "volumes", container, name), MountPoint: "/etc/ssl/own",
		SizeBytes: 16 << 20, UID: 901, GID: 901, Mode: 0o700, IDMap: spec.IDMap{Base: 100000, Count: 65536}}
}

func (h *house) object(v spec.Volume) object.Object {
	h.t.Helper()
	raw, err := json.Marshal(v)
	must(h.t, err)
	return object.Object{Address: object.NewAddress(spec.KindVolume, v.Container, v.Name), Provider: "zfs", Spec: raw}
}

func (h *house) dataset(v spec.Volume) string {
	return h.pool + "/phoenix-" + v.Container + "-" + v.Name
}

// settle applies until the volume is true, and says how many changes that took.
func (h *house) settle(v spec.Volume) int {
	h.t.Helper()
	counted := host.NewCounted(h.host, nil)
	obs, err := zfs.New().Observe(context.Background(), counted, h.object(v))
	must(h.t, err)
	if obs.Delta.Empty() {
		return 0
	}
	must(h.t, zfs.New().Apply(context.Background(), counted, h.object(v), obs.Delta))
	obs, err = zfs.New().Observe(context.Background(), counted, h.object(v))
	must(h.t, err)
	if !obs.Delta.Empty() {
		h.t.Fatalf("still to do: %+v", obs.Delta)
	}
	return counted.Mutations()
}

func (h *house) apply(v spec.Volume) error {
	obs, err := zfs.New().Observe(context.Background(), h.host, h.object(v))
	if err != nil {
		return err
	}
	return zfs.New().Apply(context.Background(), h.host, h.object(v), obs.Delta)
}

func TestConformance(t *testing.T) {
	testPool(t)
	var h *house
	v := func() spec.Volume { return h.spec("103", "ssl") }
	zfsSet := func(args ...string) conformance.Damage {
		return func(t *testing.T, _ host.Host, _ object.Object) {
			command(t, append(append([]string{"zfs"}, args...), h.dataset(v()))...)
		}
	}
	conformance.Run(t, conformance.Case{
		Driver: zfs.New(), Volatile: []string{"path", "dataset", "mountpoint", "used"},
		Fields: []string{"refquota", "mountpoint", "canmount", "mounted", "uid", "gid", "mode", "parent"},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			h = newHouse(t)
			return h.host, h.object(v())
		},
		State: func(t *testing.T, _ object.Object) string {
			return command(t, "zfs", "get", "-Hp", "-r", "all", h.pool) + conformance.Tree(t, h.root)
		},
		Break: map[string]conformance.Damage{
			"a wide mode": func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.Chmod(v().Path, 0o755)) },
			"an owner":    func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.Chown(v().Path, 0, 0)) },
			"an open parent": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.Chmod(filepath.Dir(v().Path), 0o755))
			},
			"another size":   zfsSet("set", "refquota=8M"),
			"another place":  zfsSet("set", "mountpoint=none"),
			"mounted by all": zfsSet("set", "canmount=on"),
			"unmounted":      zfsSet("unmount"),
			"a lost dataset": zfsSet("destroy"),
		},
		Foreign: func(t *testing.T, _ host.Host, _ object.Object) {
			command(t, "zfs", "create", "-o", "mountpoint=none", h.dataset(v()))
		},
		Tools: []string{"zfs"},
		Fill: func(t *testing.T, _ host.Host, _ object.Object) {
			must(t, os.WriteFile(filepath.Join(v().Path, "key"), []byte("k"), 0o600))
		},
		Filled: func(t *testing.T, _ host.Host, _ object.Object) {
			if b, err := os.ReadFile(filepath.Join(v().Path, "key")); string(b) != "k" {
				t.Errorf("%q, %v", b, err)
			}
		},
	})
}

func TestClosedAndLimited(t *testing.T) {
	h := newHouse(t)
	v := h.spec("103", "ssl")
	h.settle(v)
	m, err := h.host.Lstat(v.Path)
	if err != nil || m.UID != 100901 || m.GID != 100901 || m.Mode.Perm() != 0o700 {
		t.Errorf("volume: %+v, %v", m, err)
	}
	m, err = h.host.Lstat(filepath.Dir(v.Path))
	if err != nil || m.UID != 0 || m.GID != 100000 || m.Mode.Perm() != 0o710 {
		t.Errorf("parent: %+v, %v", m, err)
	}
	marks := command(t, "zfs", "get", "-H", "-s", "local", "-o", "property,value", "phoenix:volume,phoenix:path",
		h.dataset(v))
	if marks != "phoenix:path\t"+v.Path+"\nphoenix:volume\t103/ssl\n" &&
		marks != "phoenix:volume\t103/ssl\nphoenix:path\t"+v.Path+"\n" {
		t.Errorf("marks: %q", marks)
	}
	err = os.WriteFile(filepath.Join(v.Path, "big"), []byte(strings.Repeat(noise(), 20<<20/len(noise()))), 0o600)
	if err == nil || !strings.Contains(err.Error(), "quota exceeded") {
		t.Errorf("20 MiB on a volume of 16: %v", err)
	}
}

// noise is more than compression makes nothing of.
func noise() string {
	b := make([]byte, 1<<20)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

func TestSizes(t *testing.T) {
	h := newHouse(t)
	v := h.spec("103", "ssl")
	h.settle(v)
	must(t, os.WriteFile(filepath.Join(v.Path, "data"), []byte(noise()+noise()+noise()), 0o600))
	command(t, "zpool", "sync")
	v.SizeBytes = 32 << 20
	if n := h.settle(v); n != 1 {
		t.Errorf("growing took %d changes", n)
	}
	v.SizeBytes = 2 << 20
	err := h.apply(v)
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "cannot be limited to 2 MiB: 3.") ||
		provider.Hint(err) == "" {
		t.Errorf("shrinking below what is used: %v", err)
	}
	for size := int64(30); size > 24; size-- { // one second each would be needed for a name of their own
		h.host = &later{Host: &host.Local{}, by: 60 - size}
		v.SizeBytes = size << 20
		h.settle(v)
	}
	snapshots := strings.Fields(command(t, "zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", h.dataset(v)))
	if len(snapshots) != 3 {
		t.Errorf("snapshots: %v", snapshots)
	}
	v.SizeBytes = 0
	h.settle(v)
	if got := strings.TrimSpace(command(t, "zfs", "get", "-H", "-o", "value", "refquota",
		h.dataset(v))); got != "none" {
		t.Errorf("refquota %s", got)
	}
}

func TestForeignIsRefused(t *testing.T) {
	h := newHouse(t)
	v := h.spec("103", "ssl")
	name := h.dataset(v)
	refused := func(what, why string) {
		t.Helper()
		err := h.apply(v)
		if !provider.IsPermanent(err) || !strings.Contains(err.Error(), why) || provider.Hint(err) == "" {
			t.Errorf("%s: %v (%s)", what, err, provider.Hint(err))
		}
		if err := zfs.New().Delete(context.Background(), h.host, h.object(v)); !provider.IsPermanent(err) {
			t.Errorf("delete, %s: %v", what, err)
		}
		command(t, "zfs", "list", name)
	}
	command(t, "zfs", "create", "-V", "1M", name)
	refused("a zvol", "is a volume, not a file system")
	command(t, "zfs", "destroy", name)
	command(t, "zfs", "create", "-o", "mountpoint=none", name)
	refused("no mark", "has no property phoenix:volume")
	command(t, "zfs", "set", "phoenix:volume=103/ssl", h.pool)
	refused("a mark that it inherits", "has no property phoenix:volume")
	command(t, "zfs", "set", "phoenix:volume=101/ssl", name)
	refused("another's mark", "is marked as 101/ssl")
	command(t, "zfs", "set", "phoenix:volume=103/ssl", "phoenix:path=/elsewhere", name)
	refused("another root", "another phoenix root")
	// As the hint says.
	_, handOver, _ := strings.Cut(provider.Hint(h.apply(v)), "to hand it over: ")
	command(t, strings.Fields(handOver)...)
	h.settle(v)
}

func TestNothingIsHidden(t *testing.T) {
	h := newHouse(t)
	v := h.spec("103", "ssl")
	must(t, os.MkdirAll(v.Path, 0o700))
	must(t, os.WriteFile(filepath.Join(v.Path, "key"), nil, 0o600))
	err := h.apply(v)
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "holds files (key)") {
		t.Errorf("mounted over files: %v", err)
	}
	must(t, os.Remove(filepath.Join(v.Path, "key")))
	h.settle(v)
}

func TestDirectoryOfAnAbsentPool(t *testing.T) {
	h := newHouse(t)
	v := h.spec("103", "ssl")
	h.settle(v)
	command(t, "zfs", "unmount", h.dataset(v))
	_, err := dir.New().Observe(context.Background(), h.host, h.object(v))
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "is not here now") {
		t.Errorf("a directory under a dataset was taken for the volume: %v", err)
	}
}

func TestDeleteAndBack(t *testing.T) {
	h, ctx := newHouse(t), context.Background()
	v := h.spec("103", "ssl")
	h.settle(v)
	write := func(text string) { must(t, os.WriteFile(filepath.Join(v.Path, "key"), []byte(text), 0o600)) }
	write("first")
	must(t, zfs.New().Delete(ctx, h.host, h.object(v)))
	must(t, zfs.New().Delete(ctx, h.host, h.object(v))) // nothing there is no error
	if _, err := os.Stat(filepath.Dir(v.Path)); err == nil {
		t.Error("the directory is still there")
	}
	h.settle(v)
	write("second")
	must(t, zfs.New().Delete(ctx, h.host, h.object(v)))
	kept, _ := provider.KeptBy(zfs.New(), h.object(v))
	command(t, "sh", "-c", kept.Restore)
	h.settle(v)
	if b, err := os.ReadFile(filepath.Join(v.Path, "key")); string(b) != "second" {
		t.Errorf("brought back: %q, %v", b, err)
	}
	must(t, zfs.New().Delete(ctx, h.host, h.object(v)))
	must(t, provider.Forget(ctx, zfs.New(), h.host, h.object(v)))
	if left := command(t, "zfs", "list", "-H", "-r", "-o", "name", h.pool); left != h.pool+"\n" {
		t.Errorf("left behind: %s", left)
	}
}

func TestOneCallForAllVolumes(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"ssl", "data"} {
		h.settle(h.spec("103", name))
	}
	log := counted(t)
	var wait sync.WaitGroup
	for i := range 12 {
		wait.Go(func() {
			v := h.spec(fmt.Sprint(103+i/2), []string{"ssl", "data"}[i%2])
			if obs, err := zfs.New().Observe(context.Background(), h.host, h.object(v)); err != nil ||
				obs.Delta.Empty() != (i < 2) {
				t.Errorf("%s: %+v, %v", v.Path, obs.Delta, err)
			}
		})
	}
	wait.Wait()
	raw, err := os.ReadFile(log)
	must(t, err)
	if n := strings.Count(string(raw), "\n"); n > 3 { // those that come while one is under way share the next
		t.Errorf("12 volumes took %d calls:\n%s", n, raw)
	}
}

// counted puts a zfs on PATH that notes each call in a file.
func counted(t *testing.T) string {
	t.Helper()
	real, err := exec.LookPath("zfs")
	must(t, err)
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	must(t, os.WriteFile(filepath.Join(bin, "zfs"), []byte("#!/bin/sh\necho \"$*\" >>"+log+"\nexec "+real+" \"$@\"\n"),
		0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return log
}

// later is a host whose clock is ahead.
type later struct {
	host.Host
	by int64
}

func (l *later) Now() time.Time { return l.Host.Now().Add(time.Duration(l.by) * time.Minute) }
