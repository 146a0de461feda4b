package template

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

var idMap = spec.IDMap{Base: 100000, Count: 65536}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// driver skips where root may not use the id map.
func driver(t *testing.T) Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("lxc-usernsexec"); err != nil {
		t.Skip(err)
	}
	sys, err := os.ReadFile("/etc/subuid")
	if err != nil || !strings.Contains(string(sys), "root:100000:65536\n") {
		t.Skip("root has no range 100000:65536 in /etc/subuid")
	}
	return Driver{}
}

// directory is one that the id map's root can reach, which those of testing.T are not.
func directory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o711))
	return dir
}

// archive holds just what fit.sh calls, so that it unpacks in no time.
func archive(t *testing.T) string { return archiveOf(t, "") }

// archiveOf has an os-release that says what it is of.
func archiveOf(t *testing.T, release string) string {
	t.Helper()
	script := `set -e; [ -z "$3" ] || { mkdir -p "$1/etc"; printf "$3" >"$1/etc/os-release"; }; mkdir -p "$1/dev" "$1/etc/systemd/system" "$1/tmp"; echo old > "$1/etc/hostname"; echo id > "$1/etc/machine-id"; : > "$1/dev/null"
for f in /bin/sh $(which ln rm mkdir); do
	for p in $f $(ldd $f | grep -o '/[^ ]*'); do mkdir -p "$1$(dirname $p)"; cp -L $p "$1$p"; done
done
tar -C "$1" -czf "$2" .`
	path := filepath.Join(t.TempDir(), "small.tar.gz")
	if out, err := exec.Command("sh", "-c", script, "sh", t.TempDir(), path, release).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func object1(t *testing.T, s spec.Template) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	must(t, err)
	return object.Object{Address: "template/900", Provider: "template", Spec: raw}
}

func TestConformance(t *testing.T) {
	d, small := driver(t), archive(t)
	var s spec.Template
	fresh := func(t *testing.T) (host.Host, object.Object) {
		s = spec.Template{ID: "900", Dir: filepath.Join(directory(t), "templates"), Archive: small, IDMap: idMap}
		return &host.Local{}, object1(t, s)
	}
	conformance.Run(t, conformance.Case{
		Driver: provider.New(d), Fresh: fresh, Volatile: []string{"path"},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a lost tree":   func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.RemoveAll(tree(s))) },
			"a lost record": func(t *testing.T, _ host.Host, _ object.Object) { must(t, os.Remove(inputs(s))) },
			"a newer archive": func(t *testing.T, _ host.Host, _ object.Object) {
				now := time.Now()
				must(t, os.Chtimes(small, now, now))
			},
			"another template": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.WriteFile(inputs(s), []byte("x\n"), 0o644))
			},
		},
	})
}

func TestUnpackedTreeIsFit(t *testing.T) {
	d, ctx, h := driver(t), context.Background(), &host.Local{}
	s := spec.Template{ID: "900", Dir: filepath.Join(directory(t), "templates"), Archive: archive(t), IDMap: idMap}
	must(t, d.Apply(ctx, h, "template/900", s, plan.Delta{}))
	m, err := h.Lstat(filepath.Join(tree(s), "etc"))
	if err != nil || m.UID != 100000 {
		t.Errorf("owner is not shifted: %+v, %v", m, err)
	}
	m, err = h.Lstat(home(s))
	if err != nil || m.Mode.Perm() != 0o710 || m.UID != 0 || m.GID != 100000 {
		t.Errorf("parent is not closed: %+v, %v", m, err)
	}
	for path, want := range map[string]string{"etc/machine-id": "", spec.PresetPath: spec.Preset(spec.TemplateUnits()),
		"etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"} {
		if got, err := os.ReadFile(filepath.Join(tree(s), path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, gone := range []string{"etc/hostname", "dev/null"} {
		if _, err := os.Lstat(filepath.Join(tree(s), gone)); err == nil {
			t.Errorf("%s is there", gone)
		}
	}
	must(t, d.Delete(ctx, h, "template/900", s))
	if left, err := os.ReadDir(s.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// An archive of another distribution is refused by what is in it, whatever its name is.
func TestForeignArchiveIsRefused(t *testing.T) {
	d := driver(t)
	for release, good := range map[string]bool{
		`ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n`: false, `ID=linuxmint\nID_LIKE="ubuntu debian"\n`: true,
		`ID="rocky"\nID_LIKE="rhel centos fedora"\n`: false,
	} {
		s := spec.Template{ID: "900", Dir: filepath.Join(directory(t), "templates"), Archive: archiveOf(t, release),
			IDMap: idMap}
		err := d.Apply(context.Background(), &host.Local{}, "template/900", s, plan.Delta{})
		if good && err != nil || !good && (!provider.IsPermanent(err) ||
			!strings.Contains(err.Error(), "cannot be a container of phoenix")) {
			t.Errorf("%s: %v", release, err)
		}
		if _, err := os.Stat(tree(s)); (err == nil) != good {
			t.Errorf("%s: the tree: %v", release, err)
		}
	}
}

func TestMissingArchiveIsPermanent(t *testing.T) {
	d := driver(t)
	s := spec.Template{ID: "900", Dir: t.TempDir(), Archive: "/nowhere.tar", IDMap: idMap}
	err := d.Apply(context.Background(), &host.Local{}, "template/900", s, plan.Delta{})
	if !provider.IsPermanent(err) || !strings.Contains(err.Error(), "/nowhere.tar") {
		t.Errorf("got %v", err)
	}
}

// TestRealBuild builds a Debian tree once and keeps it in the cache, as phoenix does. Other suites than the hypervisor's
// own take minutes and a mirror: PHOENIX_SUITES names those to build, trixie or noble.
func TestRealBuild(t *testing.T) {
	for _, suite := range append([]string{"bookworm"}, strings.Fields(os.Getenv("PHOENIX_SUITES"))...) {
		t.Run(suite, func(t *testing.T) { realBuild(t, suite) })
	}
}

func realBuild(t *testing.T, suite string) {
	if _, err := exec.LookPath("mmdebstrap"); err != nil || testing.Short() {
		t.Skip("builds a Debian tree with mmdebstrap")
	}
	d, ctx := driver(t), context.Background()
	cache := os.Getenv("PHOENIX_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		must(t, err)
		cache = filepath.Join(base, "phoenix")
	}
	s := spec.Template{ID: "900", Dir: filepath.Join(directory(t), "templates"), Cache: cache, Suite: suite,
		Packages: []string{"nginx-light"}, IDMap: idMap}
	counted := host.NewCounted(&host.Local{}, nil)
	if err := d.Apply(ctx, counted, "template/900", s, plan.Delta{}); err != nil {
		if strings.Contains(err.Error(), "Temporary failure resolving") ||
			strings.Contains(err.Error(), "Could not connect") {
			t.Skipf("no Debian mirror within reach: %v", err)
		}
		t.Fatal(err)
	}
	for _, path := range []string{"usr/sbin/nginx", "usr/lib/systemd/systemd", "etc/ssl/certs/ca-certificates.crt"} {
		if _, err := os.Stat(filepath.Join(tree(s), path)); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(tree(s), "etc/systemd/system/*.wants/*")); err != nil ||
		len(left) != 1 {
		t.Errorf("something runs by itself: %v, %v", left, err)
	}
	before := counted.Mutations()
	have, err := d.Observe(ctx, counted, "template/900", s)
	if delta := d.Diff(s, have); err != nil || !delta.Empty() || counted.Mutations() != before {
		t.Errorf("second look: %+v, %v", delta, err)
	}
	firstBoot(t, tree(s))
}

// firstBoot does what systemd does where there is no machine id: units of the template stay disabled, and without the
// presets they do not.
func firstBoot(t *testing.T, root string) {
	t.Helper()
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("systemctl is not installed")
	}
	enabled := func() (out []string) {
		cmd := exec.Command("systemctl", "--root", root, "--preset-mode=enable-only", "preset-all")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		for _, u := range spec.TemplateUnits() {
			if found, err := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants", u)); err != nil ||
				len(found) > 0 {
				out = append(out, u)
			}
		}
		return out
	}
	if left := enabled(); len(left) > 0 {
		t.Errorf("the first boot enables %q", left)
	}
	must(t, os.Remove(filepath.Join(root, spec.PresetPath)))
	if left := enabled(); !slices.Contains(left, spec.UnitNginx) || !slices.Contains(left, spec.UnitFetch) {
		t.Errorf("without presets the first boot enables %q only: this shows nothing", left)
	}
}

func TestDecode(t *testing.T) {
	good := spec.Template{ID: "900", Dir: "/t", Suite: "bookworm", IDMap: idMap}
	for name, tc := range map[string]struct {
		change func(*spec.Template)
		bad    bool
	}{
		"good":              {func(*spec.Template) {}, false},
		"archive, no suite": {func(s *spec.Template) { s.Suite, s.Archive = "", "/a.tar" }, false},
		"no suite":          {func(s *spec.Template) { s.Suite = "" }, true},
		"relative":          {func(s *spec.Template) { s.Archive = "a.tar" }, true},
		"no directory":      {func(s *spec.Template) { s.Dir = "" }, true},
		"an option":         {func(s *spec.Template) { s.Packages = []string{"--setup-hook=reboot"} }, true},
		"a way out":         {func(s *spec.Template) { s.ID = "../900" }, true},
	} {
		s := good
		tc.change(&s)
		if got := provider.New(Driver{}).Decode(object1(t, s).Spec).HasErrors(); got != tc.bad {
			t.Errorf("%s: errors %t, want %t", name, got, tc.bad)
		}
	}
}
