package lxc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/template"
)

const templateVar = "PHOENIX_TEST_TEMPLATE"

var idMap = spec.IDMap{Base: 100000, Count: 65536}

// TestMain makes a Debian tree outside of the tests' own network, which has no way to a mirror, and runs them inside.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if _, err := exec.LookPath("lxc-start"); err == nil && os.Geteuid() == 0 && os.Getenv(templateVar) == "" {
		dir, err := os.MkdirTemp(place(), "phoenix-lxc-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := prepare(dir); err != nil {
			fmt.Fprintln(os.Stderr, "tests with real containers are skipped:", err)
		}
	}
	return conformance.Isolate(m)
}

// place is in memory where there is enough of it: ext4 takes seconds to make the files of a clone after another was
// deleted.
func place() string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 4<<30 {
		return ""
	}
	return "/dev/shm"
}

func prepare(dir string) error {
	cache := os.Getenv("PHOENIX_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		cache = filepath.Join(base, "phoenix")
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	raw, err := json.Marshal(spec.Template{ID: "900", Dir: dir, Cache: cache, Suite: "bookworm",
		Packages: []string{"nginx-light"}, IDMap: idMap})
	if err != nil {
		return err
	}
	o := object.Object{Address: "template/900", Spec: raw}
	if err := template.New().Apply(context.Background(), &host.Local{}, o, plan.Delta{}); err != nil {
		return err
	}
	return os.Setenv(templateVar, filepath.Join(dir, "900", "rootfs"))
}

// debian is a tree with systemd in it.
func debian(t *testing.T) string {
	t.Helper()
	conformance.Isolated(t, "lxc-start", "lxc-attach", "lxc-info", "lxc-stop", "ip")
	tree := os.Getenv(templateVar)
	if tree == "" {
		t.Skip("there is no Debian tree to clone")
	}
	return tree
}

// directory is one that the id map's root can reach, which those of testing.T are not.
func directory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o711))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func asObject(t *testing.T, kind, id string, s any) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	must(t, err)
	return object.Object{Address: object.NewAddress(kind, id), Provider: "lxc", Spec: raw}
}
