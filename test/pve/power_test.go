package pve

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// strikes are all changes that Proxmox's commands make in a run, each once, in order.
func (h *hypervisor) strikes(args ...string) []string {
	h.t.Helper()
	h.write("", "strikes")
	h.changes(0, args...)
	var out []string
	for line := range strings.Lines(h.read("strikes")) {
		if line = strings.TrimSpace(line); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	if err := os.Remove(h.path("strikes")); err != nil {
		h.t.Error(err)
	}
	return out
}

// sampled are a few of many, a call of each kind among them; with PHOENIX_KILL=all all of them.
func sampled(points []string, most int) (out []string) {
	if os.Getenv("PHOENIX_KILL") == "all" {
		return points
	}
	step := max(1, (len(points)+most-1)/most)
	for i := len(points) / 7 % step; i < len(points); i += step {
		out = append(out, points[i])
	}
	return out
}

// A power cut, or the kernel short of memory, ends phoenix and Proxmox's command and its worker at once: nothing is
// taken back. Before each change that any of the commands makes, and run again: the same end, nothing that is left
// over, no change after that.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	create := append([]string{"create"}, ids...)
	h.reset()
	points := h.strikes(create...)
	h.unchanged(create)
	want := h.state()
	picked := sampled(points, 6)
	t.Logf("%d points, %d of them: %q", len(points), len(picked), picked)
	struck := 0
	for _, p := range picked {
		t.Run(p, func(t *testing.T) {
			h := &hypervisor{t: t, name: h.name, base: h.base}
			h.reset()
			h.write(p+"\n", "strike-at")
			r := h.phoenix(nil, create...)
			if _, err := os.Stat(h.path("struck")); err != nil {
				t.Skipf("the volumes of a clone came in another order: %s", r)
			}
			if struck++; r.exit != -1 {
				t.Errorf("phoenix lives: %s", r)
			}
			h.changes(0, create...)
			h.unchanged(create)
			h.same("after the power cut", want, h.state())
		})
	}
	if struck*2 < len(picked) {
		t.Errorf("only %d of %d points were reached", struck, len(picked))
	}
}

// The same for a delete: run again it comes to its end, and no volume of phoenix's is lost.
func TestPowerCutDuringDelete(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.reset()
	create := []string{"create", "103"}
	h.changes(0, create...)
	root := h.mounted("103", "ssl", "root")
	h.write("", "strikes")
	if r := h.phoenix(nil, "delete", "103", "--yes"); r.exit != 0 {
		t.Fatal(r)
	}
	var points []string
	for line := range strings.Lines(h.read("strikes")) {
		if line = strings.TrimSpace(line); !slices.Contains(points, line) {
			points = append(points, line)
		}
	}
	if err := os.Remove(h.path("strikes")); err != nil {
		t.Fatal(err)
	}
	picked := sampled(points, 3)
	t.Logf("%d points, %d of them: %q", len(points), len(picked), picked)
	for _, p := range picked {
		h.changes(0, create...)
		h.write(p+"\n", "strike-at")
		if r := h.phoenix(nil, "delete", "103", "--yes"); r.exit != -1 {
			t.Errorf("%s: phoenix lives: %s", p, r)
		}
		if r := h.phoenix(nil, "delete", "103", "--yes"); r.exit != 0 {
			t.Errorf("%s: once more: %s", p, r)
		}
		if _, err := os.Stat(h.path("pve", "lxc", "103.conf")); !os.IsNotExist(err) {
			t.Errorf("%s: the container is left: %v", p, err)
		}
	}
	h.changes(0, create...)
	if again := h.mounted("103", "ssl", "root"); again != root || root == "" {
		t.Errorf("the CA's root was %q and is %q", root, again)
	}
	if doc, r := h.changes(0, "plan", "--detailed-exitcode", "103"); len(doc.Changes) > 0 {
		t.Errorf("the plan is not empty: %s", r)
	}
}

// The same for changes of a container that is there: it gets another volume, and one that it has grows.
func TestPowerCutDuringChanges(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	create := []string{"create", "103"}
	config := func() string { return h.read("config", "phoenix_lxc_configs.json") }
	original := config()
	small := `"name": "ssl", "pool": "homelab", "size_gb": 1, "mount_point": "/etc/step-ca/ssl"`
	large := strings.Replace(small, `"size_gb": 1`, `"size_gb": 2`, 1)
	added := `{ "name": "new", "pool": "homelab", "size_gb": 1, "mount_point": "/srv/new" }, `
	changed := strings.Replace(original, "{ "+small, added+"{ "+large, 1)
	if changed == original {
		t.Fatal("the example has no such volume")
	}
	h.reset()
	h.changes(0, create...)
	h.write(changed, "config", "phoenix_lxc_configs.json")
	points := h.strikes(append(create, "--yes")...)
	want := h.state()
	if !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, "pct resize 103") }) {
		t.Errorf("nothing grew: %q", points)
	}
	picked := sampled(points, 3)
	t.Logf("%d points, %d of them: %q", len(points), len(picked), picked)
	for _, p := range picked {
		h.write(original, "config", "phoenix_lxc_configs.json")
		h.reset()
		h.changes(0, create...)
		h.write(changed, "config", "phoenix_lxc_configs.json")
		h.write(p+"\n", "strike-at")
		if r := h.phoenix(nil, append(create, "--yes")...); r.exit != -1 {
			t.Errorf("%s: phoenix lives: %s", p, r)
		}
		h.changes(0, append(create, "--yes")...)
		if doc, r := h.changes(0, "plan", "--detailed-exitcode", "103"); len(doc.Changes) > 0 {
			t.Errorf("%s: the plan is not empty: %s", p, r)
		}
		h.same(p+": after the power cut", want, h.state())
	}
}
