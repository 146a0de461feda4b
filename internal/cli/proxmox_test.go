package cli

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// A container is entered with lxc's own tool. Where that is missing, pct exec gets -- before the command, and nothing
// of the caller's environment goes in.
func TestEnterArgv(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	a := &app{host: &host.Local{}}
	r := spec.Running{ID: "103", Proxmox: &spec.Proxmox{}}
	want := []string{"pct", "exec", "103", "--keep-env", "0", "--", "/bin/x", "-v"}
	if _, err := os.Stat("/usr/sbin/lxc-attach"); err != nil {
		if got := a.enterArgv(r, "/bin/x", "-v"); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "lxc-attach"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	want = []string{"lxc-attach", "-n", "103", "--clear-env", "--", "/bin/x", "-v"}
	if got := a.enterArgv(r, "/bin/x", "-v"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	r = spec.Running{ID: "103", Path: "/var/lib/phoenix/lxc"}
	want = []string{"lxc-attach", "-P", "/var/lib/phoenix/lxc", "-n", "103", "--clear-env", "--", "/bin/x"}
	if got := a.enterArgv(r, "/bin/x"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// auto is Proxmox where its configuration and its pct are, and nothing less.
func TestRuntimeAuto(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", filepath.Join(dir, "bin"))
	a := &app{host: &host.Local{}, proxmox: spec.Proxmox{Dir: filepath.Join(dir, "pve")},
		opts: options{runtime: "auto"}}
	check := func(want string) {
		t.Helper()
		if got, err := a.runtime(); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	check("lxc")
	for _, d := range []string{"bin", "pve"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "pct"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	check("pve")
	a.opts.runtime = "lxc"
	check("lxc")
	a.opts.runtime, a.proxmox.Dir = "pve", filepath.Join(dir, "nowhere")
	if _, err := a.runtime(); err == nil {
		t.Error("a host without Proxmox was taken for one")
	}
}
