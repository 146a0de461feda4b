package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// appliedHouse is a site that was applied, with the record of that, on a machine in memory.
type appliedHouse struct {
	*benchHouse
	containers, hypervisor map[string]any // the files, as they were applied
}

func newAppliedHouse(t *testing.T, prepare func(*appliedHouse)) *appliedHouse {
	t.Helper()
	h := &appliedHouse{benchHouse: newBenchHouse(t, 2)}
	for text, into := range map[string]*map[string]any{manyContainers(2): &h.containers,
		manyHypervisor(2): &h.hypervisor} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if prepare != nil {
		prepare(h)
	}
	memory := h.app.host.(*memoryHost)
	memory.put("/dev/net/tun", nil, fs.ModeDevice|fs.ModeCharDevice|0o600, host.Root)
	memory.file("/dev/net/tun").Major, memory.file("/dev/net/tun").Minor = 10, 200
	h.with(t, func(_, _ map[string]any) {})
	h.apply(t)
	s := h.session(t)
	if err := s.remember(t.Context(), s.ids()); err != nil {
		t.Fatal(err)
	}
	return h
}

// session is one of the files as they are.
func (h *appliedHouse) session(t *testing.T) *session {
	t.Helper()
	loaded, err := h.app.load()
	if err != nil {
		t.Fatal(err)
	}
	return &session{app: h.app, house: loaded, target: h.engine.Local.(*engine.LocalTarget)}
}

// with writes the files with a change, and gives them back.
func (h *appliedHouse) with(t *testing.T, change func(containers, hypervisor map[string]any)) {
	t.Helper()
	files := [2]map[string]any{clone(t, h.containers), clone(t, h.hypervisor)}
	change(files[0]["lxc_configs"].(map[string]any), files[1])
	for i, f := range files {
		raw, err := json.MarshalIndent(f, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(h.app.opts.config[0], fileNames[i]), string(raw))
	}
}

func clone(t *testing.T, m map[string]any) (out map[string]any) {
	t.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func bench(containers map[string]any, id string) map[string]any {
	return containers[id].(map[string]any)
}

// What was renamed, renumbered or moved is refused with both names before anything is changed, or what is in the way
// of its successor goes first, with consent.
func TestRenames(t *testing.T) {
	h := newAppliedHouse(t, nil)
	pool := t.TempDir()
	for what, x := range map[string]struct {
		change func(containers, hypervisor map[string]any)
		words  []string // of the refusal; none: it goes through
	}{
		"nothing": {func(_, _ map[string]any) {}, nil},
		"a container's address": {func(c, hv map[string]any) {
			bench(c, "1001")["network_config"].(map[string]any)["ip"] = "10.86.1.77/16"
		}, nil},
		"CA and gateway swapped": {func(c, _ map[string]any) { c["103"], c["101"] = c["101"], c["103"] },
			[]string{"the CA was container 103's and is container 101's", "the gateway was container 101's and is " +
				"container 103's"}},
		"the gateway is moved": {func(c, _ map[string]any) {
			bench(c, "101")["features"] = []any{"base_setup"}
			bench(c, "1000")["features"] = []any{"base_setup", "nginx_gateway"}
		}, []string{"the gateway was container 101's and is container 1000's", "phoenix delete 101"}},
		"Traefik is taken out": {func(c, _ map[string]any) { bench(c, "102")["features"] = []any{"base_setup"} },
			[]string{"container 102 was the proxy and is not any more", "phoenix delete 102"}},
		"a container is renumbered": {func(c, _ map[string]any) { c["1900"] = c["1001"]; delete(c, "1001") },
			[]string{"the name app1 was container 1001's and is container 1900's", "put container 1001 back"}},
		"an address is taken over": {func(c, _ map[string]any) {
			c["1900"] = c["1001"]
			delete(c, "1001")
			bench(c, "1900")["name"] = "new"
		}, []string{"the address 10.86.1.1 was container 1001's and is container 1900's"}},
		"the pool is another": {func(c, _ map[string]any) {
			bench(c, "1001")["zfs_volumes"].([]any)[0].(map[string]any)["pool"] = pool
		}, []string{"volume/1001/data is at", "where it would begin empty", "phoenix stop 1001"}},
		"a volume is renamed": {func(c, _ map[string]any) {
			bench(c, "1001")["zfs_volumes"].([]any)[0].(map[string]any)["name"] = "other"
		}, []string{"volume/1001/data is at", "the file has volume/1001/other at"}},
		"the bridge is renamed": {renameBridge, []string{"bridge newbr0", "network/benchbr0", "hostfirewall/benchbr0",
			"dns/benchbr0"}},
		"the bridge has another address": {moveBridge, []string{"10.86.255.253/16", "network/benchbr0"}},
	} {
		h.with(t, x.change)
		s := h.session(t)
		left, err := s.renamed(t.Context(), s.ids())
		if len(x.words) == 0 && (err != nil || len(left) > 0) || len(x.words) > 0 && err == nil {
			t.Errorf("%s: %v, %v", what, left, err)
			continue
		}
		for _, w := range x.words {
			if said := err.Error() + hints(err); !strings.Contains(said, w) {
				t.Errorf("%s: no %q in: %s", what, w, said)
			}
		}
	}
	for _, change := range []func(_, _ map[string]any){renameBridge, moveBridge} {
		h.with(t, change)
		h.app.opts.yes = true
		s := h.session(t)
		left, err := s.renamed(t.Context(), s.ids())
		if err != nil || !slices.ContainsFunc(left, func(o object.Object) bool { return o.Address == "network/benchbr0" }) {
			t.Errorf("with --yes: %v, %v", left, err)
		}
		if _, err := s.renamed(t.Context(), []string{"101"}); err == nil || !strings.Contains(hints(err), "without ids") {
			t.Errorf("a bridge is taken from some of its containers: %v", err)
		}
		h.app.opts.yes = false
	}
}

func renameBridge(c, hv map[string]any) {
	hv["network"].(map[string]any)["interfaces"].(map[string]any)["name"] = "newbr0"
	for id := range c {
		bench(c, id)["network_config"].(map[string]any)["bridge"] = "newbr0"
	}
}

func moveBridge(c, hv map[string]any) {
	hv["network"].(map[string]any)["interfaces"].(map[string]any)["address"] = "10.86.255.253/16"
	for id := range c {
		bench(c, id)["network_config"].(map[string]any)["gw"] = "10.86.255.253"
	}
}

// hints are what all errors of a joined one say is to be done.
func hints(err error) string {
	var one *hintError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var b strings.Builder
		for _, e := range joined.Unwrap() {
			b.WriteString(hints(e) + "\n")
		}
		return b.String()
	}
	if errors.As(err, &one) {
		return one.hint
	}
	return ""
}

// What another root's containers are plugged into stays, whatever this root deletes or renames.
func TestAnotherRootsPort(t *testing.T) {
	h := newAppliedHouse(t, nil)
	memory := h.app.host.(*memoryHost)
	root := h.session(t).machine.Root
	memory.put("/sys/class/net/benchbr0/brif", nil, fs.ModeDir|0o755, host.Root)
	memory.put("/sys/class/net/benchbr0/brif/"+config.PortName(root, "1001"), nil, 0o644, host.Root)
	memory.put("/sys/class/net/benchbr0/brif/eth0", nil, 0o644, host.Root)
	site := func() (gone, kept []object.Object) {
		s := h.session(t)
		gone, kept = s.doomed(t.Context(), s.ids(), true, true)
		other := func(o object.Object) bool { return !slices.Contains(siteKinds, o.Address.Kind()) }
		return slices.DeleteFunc(gone, other), slices.DeleteFunc(kept, other)
	}
	if gone, kept := site(); len(gone) < 3 || len(kept) > 0 {
		t.Errorf("its own: %v goes, %v stays", gone, kept)
	}
	foreign := config.PortName("/var/lib/another", "1001")
	memory.put("/sys/class/net/benchbr0/brif/"+foreign, nil, 0o644, host.Root)
	if gone, kept := site(); len(gone) > 0 || len(kept) < 3 {
		t.Errorf("another's: %v goes, %v stays", gone, kept)
	}
	h.with(t, renameBridge)
	h.app.opts.yes = true
	s := h.session(t)
	if _, err := s.renamed(t.Context(), s.ids()); err == nil || !strings.Contains(err.Error(), foreign) {
		t.Errorf("taken away by a rename: %v", err)
	}
	if err := memory.RemoveAll("/sys/class/net/benchbr0/brif/" + foreign); err != nil {
		t.Fatal(err)
	}
	if _, err := s.renamed(t.Context(), s.ids()); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("an uplink loses its bridge by a rename: %v", err)
	}
}
