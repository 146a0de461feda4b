package pve

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
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
	h.write("300ms\n", "post-stop")
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

// The three on a Proxmox host, from nothing: few calls, none for a plan and none for a second run, and the CA outlives
// its container.
func TestProxmoxHouse(t *testing.T) {
	h := newHost(t)
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
		sets := slices.DeleteFunc(slices.Clone(calls),
			func(c string) bool { return !strings.HasPrefix(c, "pct set "+id) })
		if len(sets) != 1 {
			t.Errorf("changes of %s are not in one call: %q", id, sets)
		}
		if c := h.conf(id); !strings.Contains(c, "backup=1") || !strings.Contains(c, "mp=/etc/") ||
			!strings.Contains(c, "unprivileged: 1") {
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

// variable is what is another in each run: which volume came first, and times.
var variable = regexp.MustCompile(`disk-\d+|snaptime: \d+`)

// guests are the containers' files and how many volumes there are.
func (h *hypervisor) guests() (out []string) {
	h.t.Helper()
	for _, id := range append([]string{"900"}, ids...) {
		raw, err := os.ReadFile(h.path("pve", "lxc", id+".conf"))
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(raw)) {
			out = append(out, id+".conf "+variable.ReplaceAllString(strings.TrimSpace(l), "N"))
		}
		out = append(out, fmt.Sprintf("%s: files of the ranges %v", id, h.ranges(id)))
	}
	for _, name := range []string{"pve/local/host.fw", "pve/firewall/cluster.fw", "pve/firewall/101.fw",
		"pve/firewall/102.fw", "pve/firewall/103.fw"} {
		if raw, err := os.ReadFile(h.path(name)); err == nil {
			out = append(out, name+" "+string(raw))
		}
	}
	volumes, err := os.ReadDir(h.path("zfs"))
	if err != nil {
		h.t.Fatal(err)
	}
	return append(out, fmt.Sprintf("%d volumes", len(volumes)))
}

// Without quorum, or where a container is another node's, nothing at all is touched, the bridge neither.
func TestProxmoxIsReadyFirst(t *testing.T) {
	h := newHost(t)
	h.reset()
	create := append([]string{"create"}, ids...)
	untouched := func(words ...string) {
		t.Helper()
		r := h.phoenix(nil, create...)
		for _, w := range words {
			if !strings.Contains(r.stdout+r.stderr, w) {
				t.Errorf("no %q: %s", w, r)
			}
		}
		if r.exit != 1 || len(h.pct()) > 0 || len(h.links()) > 1 {
			t.Errorf("touched: %s\n%q", r, h.links())
		}
		if _, err := os.Stat(h.path("root")); err == nil {
			t.Error("the root directory was made")
		}
	}
	if err := os.Chmod(h.path("pve", "local"), 0o555); err != nil {
		t.Fatal(err)
	}
	untouched("the cluster has no quorum: nothing was changed", "pvecm status")
	if err := os.Chmod(h.path("pve", "local"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.write(`{"version": 4, "ids": {"102": {"node": "pve2", "type": "lxc", "version": 3}}}`, "pve", ".vmlist")
	untouched("container 102 is on node pve2, and this is pve", "pct migrate 102 pve")
}

// A change that needs a restart is planned as one, and made with consent only.
func TestProxmoxRestartsWithConsent(t *testing.T) {
	h := newHost(t)
	h.reset()
	create := append([]string{"create"}, ids...)
	h.changes(0, create...)
	config := h.path("config", "phoenix_lxc_configs.json")
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(raw), `"name": "nginx",`, `"name": "nginx", "pct_options": ["keyctl=1"],`, 1)
	if err := os.WriteFile(config, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := h.read("pids", "101")
	r := h.phoenix(nil, create...)
	if r.exit != 1 || !strings.Contains(r.stdout, "needs restart: features") || !strings.Contains(r.stdout, "--yes") {
		t.Errorf("without consent: %s", r)
	}
	if now := h.read("pids", "101"); now != pid {
		t.Error("it was restarted without consent")
	}
	if r := h.phoenix(nil, "plan", "101"); !strings.Contains(r.stdout, "needs restart: features") {
		t.Errorf("plan: %s", r)
	}
	h.pct()
	h.changes(0, append(create, "--yes")...)
	if now := h.read("pids", "101"); now == pid {
		t.Error("it was not restarted")
	}
	// While its monitor ends it is asked for again.
	if calls := slices.Compact(h.pct()); len(calls) != 2 {
		t.Errorf("calls: %q", calls)
	}
	h.unchanged(create)
}

func (h *hypervisor) read(parts ...string) string {
	h.t.Helper()
	raw, err := os.ReadFile(h.path(parts...))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(raw)
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

// The commands that people use from day to day.
func TestProxmoxCommands(t *testing.T) {
	h := newHost(t)
	h.reset()
	h.changes(0, append([]string{"create"}, ids...)...)
	says := func(exit int, words []string, args ...string) {
		t.Helper()
		h.pct()
		r := h.phoenix(nil, args...)
		if r.exit != exit {
			t.Errorf("%v: %s", args, r)
		}
		for _, w := range words {
			if !strings.Contains(r.stdout, w) {
				t.Errorf("%v: no %q in %s", args, w, r)
			}
		}
	}
	says(0, []string{`"state": "running"`, h.path("zfs") + "/subvol-103-disk-", `"owner": "1879244800:1879244800"`,
		`"mode": "0700"`}, "status")
	says(0, []string{"running/101"}, "stop", "101")
	if calls := h.pct(); len(calls) != 1 || !strings.HasPrefix(calls[0], "pct shutdown 101 ") {
		t.Errorf("stop: %q", calls)
	}
	says(0, []string{`"state": "stopped"`}, "status", "101")
	time.Sleep(400 * time.Millisecond) // its monitor has ended: one start is enough
	says(0, []string{"running/101"}, "start", "101")
	if calls := h.pct(); !slices.Equal(calls, []string{"pct start 101"}) {
		t.Errorf("start: %q", calls)
	}
	pid := h.read("pids", "102")
	says(0, nil, "restart", "102")
	if h.read("pids", "102") == pid {
		t.Error("102 was not restarted")
	}
	if err := os.Chmod(h.path("pve", "local"), 0o555); err != nil {
		t.Fatal(err)
	}
	pid = h.read("pids", "102")
	for _, args := range [][]string{{"delete", "102", "--yes"}, {"delete", "--all", "--volumes=103", "--yes"},
		{"restart", "102"}, {"create", "102"}} {
		says(1, []string{"the cluster has no quorum: nothing was changed"}, args...)
		if calls := h.pct(); len(calls) > 0 || h.read("pids", "102") != pid {
			t.Errorf("%v without quorum: %q", args, calls)
		}
	}
	if err := os.Chmod(h.path("pve", "local"), 0o755); err != nil {
		t.Fatal(err)
	}
	claims := func(want int) {
		t.Helper()
		if names, err := os.ReadDir(h.path("ids", "claims")); len(names) != want {
			t.Errorf("ranges are claimed: %v, %v; want %d", names, err, want)
		}
	}
	claims(3)
	says(0, []string{"volume/102/certs"}, "delete", "102", "--volumes", "--yes")
	claims(2)
	says(0, []string{"container/103", "template/900", "network/phxbr0"}, "delete", "--all", "--volumes=103", "--yes")
	claims(0)
	left, err := os.ReadDir(h.path("zfs"))
	confs, _ := filepath.Glob(h.path("pve", "lxc", "*.conf"))
	if err != nil || len(left)+len(confs) > 0 || len(h.links()) > 1 {
		t.Errorf("left: %v, %v, %q, %q", err, left, confs, h.links())
	}
	if _, err := os.Stat(h.path("root")); !os.IsNotExist(err) {
		t.Errorf("the root directory is left: %v", err)
	}
}
