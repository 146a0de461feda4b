package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Which ranges are seen on a Proxmox host: what phoenix's containers have and keep, and what nobody may be given.
func TestObserveGuests(t *testing.T) {
	dir := t.TempDir()
	put := func(text string, parts ...string) {
		t.Helper()
		path := filepath.Join(append([]string{dir}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target string, parts ...string) {
		t.Helper()
		path := filepath.Join(append([]string{dir}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	slot := func(n int) spec.IDMap {
		return spec.IDMap{Base: idrange.Usual.Base + n*idrange.Size, Count: idrange.Size}
	}
	lines := func(m spec.IDMap) string {
		return fmt.Sprintf("lxc.idmap: u 0 %d %d\nlxc.idmap: g 0 %[1]d %d\n", m.Base, m.Count)
	}
	mark := func(id string) string { return "#phoenix%3A container/" + id + "\nunprivileged: 1\n" }
	conf := func(id, text string) { put(text, "pve/nodes/pve/lxc", id+".conf") }
	claim := func(m spec.IDMap, id string) {
		link(filepath.Join(dir, "pve/lxc", id), "ids/claims", fmt.Sprint(m.Base))
	}

	link("nodes/pve", "pve/local")
	link("nodes/pve/lxc", "pve/lxc")
	conf("101", mark("101")+lines(slot(1))+"\n[old]\nunprivileged: 1\n"+lines(slot(21))) // a snapshot of it has another
	conf("102", mark("102"))
	conf("103", mark("103")+"lock: mounted\n")
	put("", "pve/phoenix/making/103") // made, and not moved yet
	claim(slot(3), "103")
	conf("104", mark("104")+"#phoenix%3A ids/104 "+idrange.Text(slot(4))+" from 100000%3A65536\n") // on its way
	conf("105", "#phoenix%3A container/105\n")                                                     // privileged
	// restored from another, and in the file
	conf("106", mark("301")+lines(slot(6)))
	conf("301", mark("301")+lines(slot(7))) // in no file
	conf("500", "unprivileged: 1\n")
	conf("501", lines(slot(8))+"[s]\n"+lines(slot(9)))
	put(lines(slot(10)), "pve/nodes/pve2/lxc/700.conf")
	put("lxc.idmap = u 0 "+fmt.Sprint(slot(11).Base)+" 65536\n", "lib/plain/config")
	put("lxc.idmap = u 0 "+fmt.Sprint(slot(12).Base)+" 65536\n", "lib/102/config") // what a start of 102 was given
	claim(slot(13), "107")                                                         // deleted, and its volumes are kept
	link("/elsewhere/lxc/101", "ids/claims", fmt.Sprint(slot(14).Base))
	waits := filepath.Join(dir, "zfs", "disk")
	put("x", "zfs/disk/file")
	if os.Geteuid() == 0 {
		if err := os.Chown(waits, slot(15).Base+33, slot(15).Base+33); err != nil {
			t.Fatal(err)
		}
	}
	put("phoenix: volume/108/ssl local-zfs:disk "+waits+"\n", "root/volumes/108/ssl")
	put("0 "+fmt.Sprint(slot(16).Base)+" 65536\n", "ids/processes/77/uid_map")

	a := &app{host: &host.Local{},
		idPlaces: IDPlaces{Claims: filepath.Join(dir, "ids/claims"), Processes: filepath.Join(dir, "ids/processes")}}
	m := config.Machine{Root: filepath.Join(dir, "root"),
		Proxmox: &spec.Proxmox{Dir: filepath.Join(dir, "pve"), State: filepath.Join(dir, "lib"),
			Locks: filepath.Join(dir, "locks")}}
	cfg := &config.Config{}
	for _, id := range []string{"101", "102", "103", "104", "105", "106", "107", "108"} {
		cfg.Containers = append(cfg.Containers, &config.Container{ID: id, Unprivileged: true})
	}
	a.observeIDs(cfg, &m)
	have := map[string]spec.IDMap{"101": slot(1), "102": idrange.Shared, "104": slot(4), "106": slot(6), "301": slot(7)}
	if !reflect.DeepEqual(m.IDs.Have, have) {
		t.Errorf("they have\n%v, want\n%v", m.IDs.Have, have)
	}
	kept := map[string]spec.IDMap{"103": slot(3), "107": slot(13), "108": slot(15)}
	if os.Geteuid() != 0 {
		delete(kept, "108")
	}
	if !reflect.DeepEqual(m.IDs.Kept, kept) {
		t.Errorf("they keep\n%v, want\n%v", m.IDs.Kept, kept)
	}
	for _, n := range []int{8, 9, 10, 11, 14, 16, 21} {
		if !slices.Contains(m.IDs.Taken, slot(n)) {
			t.Errorf("slot %d is not taken", n)
		}
	}
	for _, r := range append([]spec.IDMap{idrange.Shared, slot(12)}, slices.Collect(func(yield func(spec.IDMap) bool) {
		for _, r := range have {
			yield(r)
		}
		for _, r := range kept {
			yield(r)
		}
	})...) {
		if slices.Contains(m.IDs.Taken, r) {
			t.Errorf("%s is phoenix's own, and taken", idrange.Text(r))
		}
	}
}
