package pve

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// volumesOf are where a container's volumes are.
func (h *hypervisor) volumesOf(id string) (out []string) {
	h.t.Helper()
	names, err := filepath.Glob(h.path("zfs", "subvol-"+id+"-disk-*"))
	if err != nil || len(names) == 0 {
		h.t.Fatalf("container %s has no volumes: %v", id, err)
	}
	return names
}

// eachFile calls f with all that is in a container's volumes, and with them.
func (h *hypervisor) eachFile(id string, f func(path string, fi fs.FileInfo, st *syscall.Stat_t)) {
	h.t.Helper()
	for _, dir := range h.volumesOf(id) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if err == nil {
				f(path, fi, fi.Sys().(*syscall.Stat_t))
			}
			return err
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// inRange demands that a container's lines and files are of one range, and returns it. What is root's was put there
// past the container: its inside is faked.
func (h *hypervisor) inRange(id string) spec.IDMap {
	h.t.Helper()
	g := idrange.ParseGuest(id, h.conf(id))
	if g.IsMoving() || g.Odd || strings.Contains(h.conf(id), "lock:") {
		h.t.Errorf("container %s:\n%s", id, h.conf(id))
	}
	h.eachFile(id, func(path string, _ fs.FileInfo, st *syscall.Stat_t) {
		for _, n := range []uint32{st.Uid, st.Gid} {
			if n != 0 && !idrange.Within(spec.IDMap{Base: int(n), Count: 1}, g.IDMap) {
				h.t.Errorf("%s is %d's, container %s has %s", path, n, id, idrange.Text(g.IDMap))
			}
		}
	})
	return g.IDMap
}

// ranges are where those begin that a container's files are of.
func (h *hypervisor) ranges(id string) (out []int) {
	h.t.Helper()
	h.eachFile(id, func(_ string, _ fs.FileInfo, st *syscall.Stat_t) {
		for _, n := range []uint32{st.Uid, st.Gid} {
			if base := int(n) / idrange.Size * idrange.Size; !slices.Contains(out, base) {
				out = append(out, base)
			}
		}
	})
	slices.Sort(out)
	return out
}

// asBefore gives a container and its volumes the range that all had before, and starts it.
func (h *hypervisor) asBefore(id string) {
	h.t.Helper()
	h.tool("pct", "stop", id)
	own := idrange.ParseGuest(id, h.conf(id)).IDMap
	h.eachFile(id, func(path string, fi fs.FileInfo, st *syscall.Stat_t) {
		if st.Uid == 0 {
			return
		}
		err := os.Lchown(path, int(st.Uid)-own.Base+idrange.Shared.Base, int(st.Gid)-own.Base+idrange.Shared.Base)
		if err == nil && fi.Mode().IsRegular() {
			err = os.Chmod(path, fi.Mode())
		}
		if err != nil {
			h.t.Fatal(err)
		}
	})
	lines := strings.SplitAfter(h.conf(id), "\n")
	h.write(strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "lxc.idmap") }),
		""), "pve", "lxc", id+".conf")
	if err := os.Remove(h.path("ids", "claims", fmt.Sprint(own.Base))); err != nil {
		h.t.Fatal(err)
	}
	h.eventually("pct", "start", id) // once its monitor has ended
}

// eventually runs one of the fakes until it does not fail.
func (h *hypervisor) eventually(argv ...string) {
	h.t.Helper()
	script := `for i in 1 2 3 4 5 6 7 8 9; do "$@" 2>/dev/null && exit; sleep 0.1; done; exec "$@"`
	h.command(append([]string{"nsenter", "--net=/run/netns/" + h.name, "env",
		"PATH=" + h.path("bin") + ":" + os.Getenv("PATH"), "PHX_PROXMOX=" + h.base,
		"sh", "-c", script, "sh"}, argv...)...)
}

// Containers are made in ranges of their own. Those that were made before are moved with consent, one by one and killed
// on the way; nobody ever starts one whose files are not of its range.
func TestProxmoxOwnIDs(t *testing.T) {
	h := newHost(t)
	h.reset()
	create := append([]string{"create"}, ids...)
	h.changes(0, create...)
	seen := map[spec.IDMap]string{idrange.Shared: "all"}
	for _, id := range ids {
		if m := h.inRange(id); seen[m] != "" {
			t.Errorf("%s has %s, like %s", id, idrange.Text(m), seen[m])
		} else {
			seen[m] = id
		}
	}
	if strings.Contains(h.conf("900"), "idmap") || h.inRange("900") != idrange.Shared {
		t.Errorf("the template:\n%s", h.conf("900"))
	}

	pids := map[string]string{}
	for _, id := range ids {
		h.asBefore(id)
		pids[id] = h.read("pids", id)
	}
	if doc, r := h.changes(0, create...); len(doc.Changes) > 0 || doc.Mutations > 0 {
		t.Errorf("without consent: %s", r)
	}
	if r := h.phoenix(nil, "validate"); !strings.Contains(r.stdout, "the ids 100000:65536 are no range of its own") {
		t.Errorf("not told: %s", r)
	}
	if r := h.phoenix(nil, "plan", "103"); !strings.Contains(r.stdout, "ids/103") {
		t.Errorf("not planned: %s", r)
	}
	h.changes(0, "apply", "103", "--yes")
	if m := h.inRange("103"); seen[m] == "all" || h.read("pids", "103") == pids["103"] {
		t.Errorf("103 has %s", idrange.Text(m))
	}
	for _, id := range []string{"101", "102"} {
		if h.inRange(id) != idrange.Shared || h.read("pids", id) != pids[id] {
			t.Errorf("%s was touched:\n%s", id, h.conf(id))
		}
	}

	root := "BASE/zfs/subvol-101-disk-0"
	for _, p := range []point{{what: "move the ids in " + root, nth: 1},
		{what: "move the ids in " + root, nth: 1, after: true}} {
		r := h.phoenix(h.watch(p), "apply", "101", "--yes")
		h.quiet()
		if _, err := os.Stat(h.calls("") + ".struck"); err != nil || r.exit != -1 {
			t.Fatalf("%s: not killed: %s", p, r)
		}
		if g := idrange.ParseGuest("101", h.conf("101")); !g.IsMoving() ||
			!strings.Contains(h.conf("101"), "lock: mounted") {
			t.Errorf("%s: nothing says so:\n%s", p, h.conf("101"))
		}
		_ = os.Remove(h.calls("") + ".struck") // seen
	}
	h.changes(0, "apply", "--yes", "101", "102")
	for _, id := range ids {
		if h.inRange(id) == idrange.Shared {
			t.Errorf("%s was not moved", id)
		}
	}
	h.unchanged(create)
	if _, err := os.Stat(h.path("mismatches")); err == nil {
		t.Errorf("started with files of another range: %s", h.read("mismatches"))
	}
}
