package pve

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// elsewhere moves guests to another node of the cluster, as high availability does: their files are renamed.
func (h *hypervisor) elsewhere(node string, ids ...string) {
	h.t.Helper()
	list := map[string]map[string]any{}
	for _, id := range ids {
		here, there := h.path("pve", "nodes", "pve", "lxc", id+".conf"), h.path("pve", "nodes", node, "lxc", id+".conf")
		if err := os.Rename(here, there); err != nil {
			h.t.Fatal(err)
		}
		list[id] = map[string]any{"node": node, "type": "lxc", "version": 7}
		if raw, err := os.ReadFile(h.path("pids", id)); err == nil {
			h.command("kill", "-KILL", strings.TrimSpace(string(raw)))
			for range 200 {
				if _, err := os.Stat("/proc/" + strings.TrimSpace(string(raw))); err != nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	raw, err := json.Marshal(map[string]any{"version": 9, "ids": list})
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(string(raw), "pve", ".vmlist")
	h.write("totem {}\n", "pve", "corosync.conf")
}

// A container that is here does not wait for the template that it came from, wherever that is; one that would have
// to be cloned from it says where that is.
func TestTheTemplateOnAnotherNode(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.reset()
	h.changes(0, "create", "103")
	h.elsewhere("pve2", "900")
	h.pct()
	if doc, r := h.changes(0, "plan", "--detailed-exitcode", "103"); len(doc.Changes) > 0 {
		t.Errorf("there is something to do: %s", r)
	}
	if doc, r := h.changes(0, "create", "103"); len(doc.Changes) > 0 || len(h.pct()) > 0 {
		t.Errorf("something was done: %s", r)
	}
	r := h.phoenix(nil, "create", "101")
	said := r.stdout + r.stderr
	if r.exit != 1 || !strings.Contains(said, "900") || !strings.Contains(said, "on node pve2") || len(h.pct()) > 0 {
		t.Errorf("a container that has to be cloned: %s", r)
	}
	if r := h.phoenix(nil, "validate"); r.exit != 0 {
		t.Errorf("validate: %s", r)
	}
}

// What a container depends on may be on another node: it is used over the network, and neither touched nor missed.
func TestADependencyOnAnotherNode(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.reset()
	h.changes(0, append([]string{"create"}, ids...)...)
	h.elsewhere("pve2", "103")
	h.pct()
	for _, command := range [][]string{{"plan", "101", "102"}, {"create", "101", "102"}} {
		r := h.phoenix(nil, command...)
		if r.exit != 0 || len(h.pct()) > 0 {
			t.Errorf("%v: %s", command, r)
		}
	}
	if r := h.phoenix(nil, "restart", "102"); r.exit != 0 {
		t.Errorf("restart: %s", r)
	}
	if r := h.phoenix(nil, "stop", "101"); r.exit != 0 {
		t.Fatal(r)
	}
	r := h.phoenix(nil, "health", "101")
	if strings.Contains(r.stdout, "blocked by running/103") || !strings.Contains(r.stdout, "trust/101") {
		t.Errorf("health: %s", r)
	}
	h.pct()
	doc, _ := h.changes(0, "create", "101", "102")
	if len(doc.Changes) != 1 || doc.Changes[0].Address != "running/101" {
		t.Errorf("what is here is not kept: %+v", doc)
	}
	r = h.phoenix(nil, "create", "103")
	if r.exit != 1 || !strings.Contains(r.stdout+r.stderr, "container 103 is on node pve2") {
		t.Errorf("one that is asked for by name: %s", r)
	}
	left := h.pct()
	if slices.ContainsFunc(left, func(c string) bool { return strings.Contains(c, "103") }) {
		t.Errorf("103 was touched: %q", left)
	}
}

// Quorum that is lost in the middle of a create leaves half a container and a source, both locked. Once it is back
// the next run takes them for what they are, at once.
func TestQuorumLostInMidCreate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, x := range []struct{ id, verb string }{{"103", "clone"}, {"900", "create"}} {
		h.reset()
		h.write("1500ms\n", "slow-"+x.verb)
		done := make(chan result)
		go func() { done <- h.phoenix(nil, "create", "103") }()
		conf := h.path("pve", "lxc", x.id+".conf")
		for range 2000 {
			if raw, err := os.ReadFile(conf); err == nil && strings.Contains(string(raw), "lock: create") {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err := os.Chmod(h.path("pve", "local"), 0o555); err != nil {
			t.Fatal(err)
		}
		if r := <-done; r.exit != 1 || !strings.Contains(r.stdout+r.stderr, "no quorum") {
			t.Errorf("%s: %s", x.verb, r)
		}
		if !strings.Contains(h.conf(x.id), "lock: create") {
			t.Errorf("%s: nothing was left half made", x.verb)
		}
		if err := os.Remove(h.path("slow-" + x.verb)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(h.path("pve", "local"), 0o755); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		h.changes(0, "create", "103")
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("%s: the locks were waited for: %s", x.verb, took)
		}
		for _, id := range []string{"900", "103"} {
			if strings.Contains(h.conf(id), "lock:") {
				t.Errorf("%s: %s is still locked:\n%s", x.verb, id, h.conf(id))
			}
		}
		if doc, r := h.changes(0, "create", "103"); len(doc.Changes) > 0 {
			t.Errorf("%s: one more run changes something: %s", x.verb, r)
		}
		if volumes, err := os.ReadDir(h.path("zfs")); err != nil || len(volumes) != 3 {
			t.Errorf("%s: volumes left: %v %v", x.verb, volumes, err)
		}
	}
}

// A create that is killed before the first root is pinned goes on in a cluster too, and without a word of consent.
func TestFirstRootInACluster(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, what := range []string{"write BASE/root/pins/103", "run pct start 103"} {
		h.reset()
		h.write("totem {}\n", "pve", "corosync.conf")
		env := append(h.watch(point{}), point{what: what, nth: 1}.environment()...)
		if r := h.phoenix(env, "create", "103"); r.exit != -1 {
			t.Fatalf("%s: not killed: %s", what, r)
		}
		h.quiet()
		h.changes(0, "create", "103")
		if doc, r := h.changes(0, "create", "103"); len(doc.Changes) > 0 {
			t.Errorf("%s: one more run changes something: %s", what, r)
		}
		pins, err := os.ReadDir(h.path("pve", "phoenix", "pins"))
		if err != nil || len(pins) != 1 {
			t.Errorf("%s: pins %v, %v", what, pins, err)
		}
	}
}

// A CA that comes to a node which knows no root of it keeps its own, and that is not taken for the right one in
// silence.
func TestNoRootIsPinnedSilently(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.reset()
	h.write("totem {}\n", "pve", "corosync.conf")
	h.changes(0, "create", "103")
	for _, pins := range [][]string{{"root", "pins"}, {"pve", "phoenix", "pins"}} {
		if err := os.RemoveAll(h.path(pins...)); err != nil {
			t.Fatal(err)
		}
	}
	root := h.mounted("103", "ssl", "root")
	r := h.phoenix(nil, "create", "103")
	if _, err := os.Stat(h.path("root", "pins", "103")); err == nil || r.exit == 0 {
		t.Errorf("pinned without a word of consent: %s", r)
	}
	if !strings.Contains(r.stdout+r.stderr, root) || !strings.Contains(r.stdout+r.stderr, "--new-root") {
		t.Errorf("it does not say which root it found, and what to do: %s", r)
	}
	if again := h.mounted("103", "ssl", "root"); again != root {
		t.Errorf("the root was %s and is %s", root, again)
	}
	if r := h.phoenix(nil, "create", "103", "--new-root"); r.exit != 0 {
		t.Errorf("with consent: %s", r)
	}
	again, pin := h.mounted("103", "ssl", "root"), h.read("root", "pins", "103")
	if again != root || !strings.Contains(pin, root) {
		t.Errorf("with consent the root that is there is pinned: %s, %s, %s", root, again, pin)
	}
}
