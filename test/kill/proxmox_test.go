package kill

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// install makes an empty Proxmox host.
func (h *hypervisor) install() {
	h.t.Helper()
	for _, dir := range []string{"pve/nodes/pve/lxc", "pve/nodes/pve2/lxc", "pve/local", "zfs", "lib", "locks"} {
		if err := os.MkdirAll(h.path(dir), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := os.Symlink("nodes/pve/lxc", h.path("pve", "lxc")); err != nil {
		h.t.Fatal(err)
	}
	h.write("zfspool: local-zfs\n\tpool rpool/data\n\tmountpoint "+h.path("zfs")+"\n\tcontent rootdir,images\n\n"+
		"dir: local\n\tpath "+h.path("vz")+"\n\tcontent vztmpl\n", "pve", "storage.cfg")
	h.write("an archive", "vz", "template", "cache", "debian-12-standard_12.12-1_amd64.tar.zst")
	config := h.path("config", "phoenix_lxc_configs.json")
	raw, err := os.ReadFile(config)
	if err != nil {
		h.t.Fatal(err)
	}
	here := strings.ReplaceAll(string(raw), "/var/lib/vz/", h.path("vz")+"/")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(here, h.base+h.base, h.base)), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// pct are the calls of pct since the last time.
func (h *hypervisor) pct() []string {
	h.t.Helper()
	raw, err := os.ReadFile(h.path("calls"))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.path("calls"), nil, 0o644); err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for l := range strings.Lines(string(raw)) {
		if strings.HasPrefix(l, "pct ") || strings.HasPrefix(l, "pvesm ") || strings.HasPrefix(l, "pvesh ") {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return out
}

func (h *hypervisor) conf(id string) string {
	h.t.Helper()
	raw, err := os.ReadFile(h.path("pve", "lxc", id+".conf"))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
}

// The three on a Proxmox host, from nothing: few calls, none for a plan and none for a second run, and the CA outlives its container.
func TestProxmoxHouse(t *testing.T) {
	h := newHost(t, true)
	h.reset()
	create := append([]string{"create"}, ids...)
	if r := h.phoenix(nil, append([]string{"plan"}, ids...)...); r.exit != 0 {
		t.Fatalf("plan: %s", r)
	}
	if calls := h.pct(); len(calls) > 0 {
		t.Errorf("a plan called %q", calls)
	}
	doc, r := h.changes(0, create...)
	if len(doc.Changes) == 0 {
		t.Fatalf("nothing was made: %s", r)
	}
	calls := h.pct()
	t.Logf("%d calls:\n%s", len(calls), strings.Join(calls, "\n"))
	for _, id := range ids {
		sets := slices.DeleteFunc(slices.Clone(calls), func(c string) bool { return !strings.HasPrefix(c, "pct set "+id) })
		if len(sets) != 1 {
			t.Errorf("changes of %s are not in one call: %q", id, sets)
		}
		if c := h.conf(id); !strings.Contains(c, "backup=1") || !strings.Contains(c, "mp=/etc/") || !strings.Contains(c, "unprivileged: 1") {
			t.Errorf("%s:\n%s", id, c)
		}
	}
	h.unchanged(create)
	if calls := h.pct(); len(calls) > 0 {
		t.Errorf("two plans and a run without a change called %q", calls)
	}
	root := h.mounted("103", "ssl", "root")
	if r := h.phoenix(nil, "delete", "103", "--yes"); r.exit != 0 {
		t.Fatalf("delete: %s", r)
	}
	if _, err := os.Stat(h.path("pve", "lxc", "103.conf")); !os.IsNotExist(err) {
		t.Errorf("103 is still there: %v", err)
	}
	h.changes(0, create...)
	if again := h.mounted("103", "ssl", "root"); again != root || root == "" {
		t.Errorf("the CA's root was %q and is %q", root, again)
	}
	h.unchanged(create)
}

// mounted reads a file of a volume, by the last part of its path inside.
func (h *hypervisor) mounted(id string, parts ...string) string {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{h.path("mounts", id)}, parts...)...))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
}
