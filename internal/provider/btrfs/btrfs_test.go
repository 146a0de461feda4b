package btrfs_test

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
		{"mkdir", mount}, {"truncate", "-s", "256M", image}, {"mkfs.btrfs", "-q", image}, {"mount", "-o", "loop", image, mount},
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

func volume(t *testing.T, path string) object.Object {
	t.Helper()
	raw, err := json.Marshal(spec.Volume{Container: "101", Name: "ssl", Path: path, MountPoint: "/etc/nginx/ssl",
		Mode: 0o700, IDMap: spec.IDMap{Base: 100000, Count: 65536}})
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: "volume/101/ssl", Provider: "btrfs", Spec: raw}
}

func TestConformance(t *testing.T) {
	mount := pool(t)
	fresh := func(t *testing.T) (host.Host, object.Object) {
		dir, err := os.MkdirTemp(mount, "root")
		if err != nil {
			t.Fatal(err)
		}
		return &host.Local{}, volume(t, filepath.Join(dir, "volumes/101/ssl"))
	}
	conformance.Run(t, conformance.Case{Driver: btrfs.New(), Fresh: fresh, Volatile: []string{"path"}})
}

func TestSubvolumeIsMadeAndDeleted(t *testing.T) {
	path := filepath.Join(pool(t), "101/ssl")
	h, o, ctx := &host.Local{}, volume(t, path), context.Background()
	if err := btrfs.New().Apply(ctx, h, o, plan.Delta{Action: plan.Create}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("btrfs", "subvolume", "show", path).CombinedOutput(); err != nil {
		t.Errorf("not a subvolume: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(path, "key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := btrfs.New().Delete(ctx, h, o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("still there")
	}
}

func TestPlainDirectoryIsRefused(t *testing.T) {
	path := filepath.Join(pool(t), "101/ssl")
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := btrfs.New().Observe(context.Background(), &host.Local{}, volume(t, path))
	if err == nil || !strings.Contains(err.Error(), "not a subvolume") {
		t.Errorf("got %v", err)
	}
}
