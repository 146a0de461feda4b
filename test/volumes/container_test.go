package volumes

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

// lab is a file system on a file with a root directory on it, and a configuration.
type lab struct {
	t                       *testing.T
	base, mnt, root, config string
}

// newLab makes the directories; mount gives the file system that is to be at mnt.
func newLab(t *testing.T, tools ...string) *lab {
	t.Helper()
	conformance.Isolated(t, append(tools, "lxc-start", "dnsmasq")...)
	if os.Getenv("PHOENIX_BIN") == "" {
		t.Skip("PHOENIX_BIN names a phoenix; make e2e and make test-zfs have one")
	}
	base, err := os.MkdirTemp("", "phxvol-")
	must(t, err)
	must(t, os.Chmod(base, 0o711))
	l := &lab{t: t, base: base, mnt: filepath.Join(base, "mnt"), config: filepath.Join(base, "config")}
	l.root = filepath.Join(l.mnt, "root")
	must(t, os.Mkdir(l.mnt, 0o711))
	t.Cleanup(func() {
		if out, err := exec.Command(beside("tools/sweep"), base).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	must(t, os.CopyFS(l.config, os.DirFS(beside("examples/homelab"))))
	return l
}

// beside is a file of the checkout, or of what was taken from it to where there is none.
func beside(name string) string {
	if dir := os.Getenv("PHOENIX_CHECKOUT"); dir != "" {
		return filepath.Join(dir, name)
	}
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", name)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lab) do(argv ...string) string {
	l.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// phoenix runs it and says how long it took.
func (l *lab) phoenix(args ...string) string {
	l.t.Helper()
	start := time.Now()
	cmd := exec.Command(os.Getenv("PHOENIX_BIN"),
		append(args, "--config", l.config, "--root", l.root, "--runtime", "lxc", "--no-color")...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("phoenix %v: %v\n%s\n%s", args, err, out, errs.String())
	}
	l.t.Logf("phoenix %s: %.1f s", strings.Join(args, " "), time.Since(start).Seconds())
	return string(out) + errs.String()
}

func (l *lab) inside(argv ...string) string {
	l.t.Helper()
	return l.do(append([]string{"lxc-attach", "-P", filepath.Join(l.root, "lxc"), "-n", "103", "--clear-env", "--"},
		argv...)...)
}

// made is that of a second create and of nothing left to do.
type made struct{ Mutations int }

// live goes through the life of 103 and its volume: limited, closed, mounted, kept, put aside and brought back.
func (l *lab) live(lose func()) {
	l.t.Helper()
	l.phoenix("create", "103")
	if got := l.inside("stat", "-c", "%a %u:%g", "/etc/step-ca/ssl"); got != "700 0:0" {
		l.t.Errorf("inside: %s", got)
	}
	var again made
	must(l.t, json.Unmarshal([]byte(l.phoenix("create", "103", "-o", "json")), &again))
	if again.Mutations != 0 {
		l.t.Errorf("a second create made %d changes", again.Mutations)
	}
	root := l.phoenix("ca", "show")
	same := func(after string) {
		l.t.Helper()
		l.phoenix("create", "103")
		if got := l.phoenix("ca", "show"); got != root {
			l.t.Errorf("another root after %s:\n%s\n%s", after, root, got)
		}
	}
	l.phoenix("stop", "103")
	lose()
	same("the volume was lost from sight")

	var gone struct {
		Aside []struct{ Restore string } `json:"put_aside"`
	}
	must(l.t, json.Unmarshal([]byte(l.phoenix("delete", "103", "--volumes=103", "--yes", "-o", "json")), &gone))
	if len(gone.Aside) != 1 {
		l.t.Fatalf("put aside: %+v", gone.Aside)
	}
	l.do("sh", "-c", gone.Aside[0].Restore)
	same("the volume was brought back")
	l.phoenix("delete", "--all", "--volumes=103", "--yes")
	if left, err := os.ReadDir(l.mnt); err != nil || len(left) > 0 {
		l.t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOnZFS(t *testing.T) {
	if _, err := os.Stat("/dev/zfs"); err != nil {
		t.Skip("this kernel has no ZFS; make test-zfs runs it in a machine that has")
	}
	l := newLab(t, "zpool", "zfs")
	pool, image := fmt.Sprintf("phxvol%d", os.Getpid()), filepath.Join(l.base, "image")
	l.do("truncate", "-s", "8G", image)
	l.do("zpool", "create", "-f", "-m", "none", pool, image)
	t.Cleanup(func() {
		if out, err := exec.Command("zpool", "destroy", "-f", pool).CombinedOutput(); err != nil {
			t.Errorf("pool %s is left: %v\n%s", pool, err, out)
		}
	})
	l.do("zfs", "create", "-o", "mountpoint="+l.mnt, pool+"/root")
	l.do("zfs", "create", "-o", "mountpoint=none", pool+"/volumes")
	must(t, os.Chmod(l.mnt, 0o711))
	file := filepath.Join(l.config, "phoenix_lxc_configs.json")
	raw, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file,
		[]byte(strings.ReplaceAll(string(raw), `"pool": "homelab"`, `"pool": "`+pool+`/volumes"`)), 0o644))

	volume := pool + "/volumes/phoenix-103-ssl"
	l.live(func() {
		if got := l.do("zfs", "get", "-Hp", "-o", "value", "refquota,canmount,phoenix:volume,mounted",
			volume); got != "1073741824\nnoauto\n103/ssl\nyes" {
			t.Errorf("the dataset: %q", got)
		}
		l.do("zfs", "unmount", volume)
	})
	if left := l.do("zfs", "list", "-H", "-o", "name", "-r", pool+"/volumes"); left != pool+"/volumes" {
		t.Errorf("left behind: %s", left)
	}
}

func TestOnBtrfs(t *testing.T) {
	l := newLab(t, "mkfs.btrfs", "btrfs")
	image := filepath.Join(l.base, "image")
	l.do("truncate", "-s", "8G", image)
	l.do("mkfs.btrfs", "-q", image)
	if out, err := exec.Command("mount", "-o", "loop", image, l.mnt).CombinedOutput(); err != nil {
		t.Skipf("no loop-mounted Btrfs here: %v\n%s", err, out)
	}
	must(t, os.Chmod(l.mnt, 0o711))
	l.live(func() {
		volume := filepath.Join(l.root, "volumes/103/ssl")
		if got := l.do("btrfs", "qgroup", "show", "-reF", "--raw", volume); !strings.Contains(got, " 1073741824 ") {
			t.Errorf("the quota group:\n%s", got)
		}
	})
}
