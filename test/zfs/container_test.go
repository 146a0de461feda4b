package zfs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

// lab is a pool on a file, a root folder on it and a configuration.
type lab struct {
	t                  *testing.T
	pool, root, config string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if _, err := os.Stat("/dev/zfs"); err != nil {
		t.Skip("this kernel has no ZFS; make test-zfs runs it in a machine that has")
	}
	conformance.Isolated(t, "zpool", "zfs", "lxc-start", "dnsmasq")
	if os.Getenv("PHOENIX_BIN") == "" || os.Getenv("PHOENIX_HOMELAB") == "" {
		t.Skip("PHOENIX_BIN and PHOENIX_HOMELAB name a phoenix and a configuration; make test-zfs has both")
	}
	base, err := os.MkdirTemp("/var/tmp", "phxzfs-")
	must(t, err)
	must(t, os.Chmod(base, 0o711))
	l := &lab{t: t, pool: fmt.Sprintf("phxlab%d", os.Getpid()), root: filepath.Join(base, "root"), config: filepath.Join(base, "config")}
	t.Cleanup(func() {
		sweep := exec.Command(filepath.Join(filepath.Dir(os.Getenv("PHOENIX_BIN")), "sweep"), base)
		out, err := sweep.CombinedOutput()
		if destroyed, derr := exec.Command("zpool", "destroy", "-f", l.pool).CombinedOutput(); derr != nil {
			t.Errorf("pool %s is left: %v\n%s", l.pool, derr, destroyed)
		}
		if rerr := os.RemoveAll(base); err != nil || rerr != nil {
			t.Errorf("%v, %v\n%s", err, rerr, out)
		}
	})
	image := filepath.Join(base, "image")
	l.do("truncate", "-s", "8G", image)
	l.do("zpool", "create", "-f", "-m", "none", "-O", "compression=lz4", l.pool, image)
	l.do("zfs", "create", "-o", "mountpoint="+l.root, l.pool+"/root")
	must(t, os.Chmod(l.root, 0o711))
	l.do("zfs", "create", "-o", "mountpoint=none", l.pool+"/volumes")
	must(t, os.CopyFS(l.config, os.DirFS(os.Getenv("PHOENIX_HOMELAB"))))
	file := filepath.Join(l.config, "phoenix_lxc_configs.json")
	raw, err := os.ReadFile(file)
	must(t, err)
	volumes := strings.ReplaceAll(string(raw), `"pool": "homelab"`, `"pool": "`+l.pool+`/volumes"`)
	must(t, os.WriteFile(file, []byte(volumes), 0o644))
	return l
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
	cmd := exec.Command(os.Getenv("PHOENIX_BIN"), append(args, "--config", l.config, "--root", l.root, "--runtime", "lxc", "--no-color")...)
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
	return l.do(append([]string{"lxc-attach", "-P", filepath.Join(l.root, "lxc"), "-n", "103", "--clear-env", "--"}, argv...)...)
}

func TestVolumeOfARealContainer(t *testing.T) {
	l := newLab(t)
	volume := l.pool + "/volumes/phoenix-103-ssl"
	if told := l.phoenix("validate"); strings.Contains(told, l.pool+"/volumes is not on this machine") {
		t.Errorf("the pool was not found:\n%s", told)
	}
	l.phoenix("create", "103")
	if got := l.do("zfs", "get", "-Hp", "-o", "value", "refquota,canmount,phoenix:volume,mounted", volume); got != "1073741824\nnoauto\n103/ssl\nyes" {
		t.Errorf("the dataset: %q", got)
	}
	if got := l.inside("stat", "-c", "%a %u:%g", "/etc/step-ca/ssl"); got != "700 0:0" {
		t.Errorf("inside: %s", got)
	}
	if got := l.inside("cat", "/proc/self/mountinfo"); !strings.Contains(got, volume+" ") {
		t.Errorf("it is not what is mounted inside:\n%s", got)
	}
	var again struct{ Mutations int }
	must(t, json.Unmarshal([]byte(l.phoenix("create", "103", "-o", "json")), &again))
	if again.Mutations != 0 {
		t.Errorf("a second create made %d changes", again.Mutations)
	}

	root := l.phoenix("ca", "show")
	l.phoenix("stop", "103")
	l.do("zfs", "unmount", volume)
	l.phoenix("create", "103")
	if got := l.phoenix("ca", "show"); got != root {
		t.Errorf("another root after the volume was unmounted:\n%s\n%s", root, got)
	}

	var gone struct {
		Aside []struct{ Restore string } `json:"put_aside"`
	}
	must(t, json.Unmarshal([]byte(l.phoenix("delete", "103", "--volumes", "--yes", "-o", "json")), &gone))
	if len(gone.Aside) != 1 {
		t.Fatalf("put aside: %+v", gone.Aside)
	}
	l.do("sh", "-c", gone.Aside[0].Restore)
	l.phoenix("create", "103")
	if got := l.phoenix("ca", "show"); got != root {
		t.Errorf("another root after the volume was brought back:\n%s\n%s", root, got)
	}
	l.phoenix("delete", "--all", "--volumes", "--yes")
	if left := l.do("zfs", "list", "-H", "-o", "name", "-r", l.pool+"/volumes"); left != l.pool+"/volumes" {
		t.Errorf("left behind: %s", left)
	}
}
