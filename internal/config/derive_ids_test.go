package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const tinyBase = 0x70000000

// slot is the n-th range of the block; the first is the templates'.
func slot(n int) spec.IDMap { return spec.IDMap{Base: tinyBase + n*idrange.Size, Count: idrange.Size} }

// housed is a derivation of unprivileged containers on a machine whose block has four ranges for containers.
func housed(ids IDs, containers ...string) *derivation {
	d := &derivation{cfg: &Config{}, machine: Machine{Runtime: "lxc", Root: "/r", IDs: ids}}
	d.machine.IDs.Block = spec.IDMap{Base: tinyBase, Count: 5 * idrange.Size}
	for _, id := range containers {
		d.cfg.Containers = append(d.cfg.Containers, &Container{ID: id, Unprivileged: true})
	}
	return d
}

type ranges = map[string]spec.IDMap

func TestAssign(t *testing.T) {
	shared := idrange.Shared
	odd := spec.IDMap{Base: tinyBase + idrange.Size + 5, Count: idrange.Size}
	ann := func(m spec.IDMap) []idrange.Claim {
		return []idrange.Claim{{Who: "ann", File: "/etc/subuid", Line: 1, IDMap: m}}
	}
	for name, tc := range map[string]struct {
		ids      IDs
		own, now ranges // of 101, 102 and so on; a range that is not named is none
	}{
		"the lowest, in the order of the file": {IDs{}, ranges{"101": slot(1), "102": slot(2)}, nil},
		"one that is there keeps its range": {IDs{Have: ranges{"102": slot(1)}},
			ranges{"101": slot(2), "102": slot(1)}, nil},
		"a gap is filled": {IDs{Have: ranges{"102": slot(3)}},
			ranges{"101": slot(1), "102": slot(3)}, nil},
		"what was deleted gets its range back": {IDs{Kept: ranges{"102": slot(1)}},
			ranges{"101": slot(2), "102": slot(1)}, nil},
		"a claim of one that is in no file": {IDs{Kept: ranges{"999": slot(1)}},
			ranges{"101": slot(2), "102": slot(3)}, nil},
		"a container that is in no file": {IDs{Have: ranges{"999": slot(1)}},
			ranges{"101": slot(2), "102": slot(3)}, nil},
		"the claim of another's present range": {IDs{Have: ranges{"999": slot(1)}, Kept: ranges{"101": slot(1)}},
			ranges{"101": slot(2), "102": slot(3)}, nil},
		"its own range before its claim": {IDs{Have: ranges{"101": slot(3)}, Kept: ranges{"101": slot(2)}},
			ranges{"101": slot(3), "102": slot(1)}, nil},
		"containers of others": {IDs{Taken: []spec.IDMap{slot(1), {Base: slot(2).Base + 7, Count: 1}}},
			ranges{"101": slot(3), "102": slot(4)}, nil},
		"a user's line": {IDs{Others: ann(spec.IDMap{Base: slot(1).Base + 100, Count: 3})},
			ranges{"101": slot(2), "102": slot(3)}, nil},
		"a user who came to have a container's": {IDs{Have: ranges{"101": slot(1)}, Others: ann(slot(1))},
			ranges{"101": slot(2), "102": slot(3)}, ranges{"101": slot(1), "102": slot(3)}},
		"a claim that a user came to have": {IDs{Kept: ranges{"101": slot(1)}, Others: ann(slot(1))},
			ranges{"101": slot(2), "102": slot(3)}, nil},
		"the templates' range": {IDs{Have: ranges{"101": slot(0)}}, ranges{"101": slot(1), "102": slot(2)},
			ranges{"101": slot(0), "102": slot(2)}},
		"one that begins askew": {IDs{Have: ranges{"101": odd}}, ranges{"101": slot(3), "102": slot(4)},
			ranges{"101": odd, "102": slot(4)}},
		"two with the same: one keeps it": {IDs{Have: ranges{"101": slot(2), "102": slot(2)}},
			ranges{"101": slot(2), "102": slot(1)},
			ranges{"101": slot(2), "102": slot(2)}},
		"the block is full": {IDs{Taken: []spec.IDMap{slot(1), slot(2), slot(3)}}, ranges{"101": slot(4)}, nil},
		"full, and one is there": {IDs{Taken: []spec.IDMap{slot(1), slot(2), slot(3), slot(4)},
			Have: ranges{"102": shared}}, ranges{},
			ranges{"102": shared}},
		"no block": {IDs{None: true, Have: ranges{"101": slot(1)}}, ranges{}, ranges{"101": slot(1)}},
		"of before, as it is": {IDs{Have: ranges{"101": shared, "102": shared}}, ranges{"101": slot(1), "102": slot(2)},
			ranges{"101": shared, "102": shared}},
		"of before, planned": {IDs{Plan: true, Have: ranges{"101": shared}}, ranges{"101": slot(1), "102": slot(2)},
			ranges{"101": shared, "102": slot(2)}},
		"of before, moved": {IDs{Move: true, Have: ranges{"101": shared, "102": shared}},
			ranges{"101": slot(1), "102": slot(2)}, nil},
		"of before, held although it is asked for": {IDs{Move: true, Held: "later", Have: ranges{"101": shared}},
			ranges{"101": slot(1), "102": slot(2)}, ranges{"101": shared, "102": slot(2)}},
		"privileged, as it is": {IDs{Have: ranges{"101": {}}}, ranges{"101": slot(1), "102": slot(2)},
			ranges{"102": slot(2)}},
	} {
		if tc.now == nil {
			tc.now = tc.own
		}
		for range 8 { // maps have no order
			got := housed(tc.ids, "101", "102").assign()
			for _, id := range []string{"101", "102"} {
				if r := got[id]; r.own != tc.own[id] || r.now != tc.now[id] {
					t.Errorf("%s: %s is to have %s and has %s, want %s and %s", name, id,
						idrange.Text(r.own), idrange.Text(r.now), idrange.Text(tc.own[id]), idrange.Text(tc.now[id]))
				}
			}
		}
	}
}

// Whatever is seen of a machine, no two containers are given an id in common, nor one that others have; and what was
// given stays.
func TestAssignIsStable(t *testing.T) {
	for _, have := range []ranges{nil, {"103": slot(2)}, {"101": slot(3), "102": slot(3)},
		{"101": idrange.Shared, "104": slot(1)}} {
		ids := IDs{Move: true, Have: have}
		d := housed(ids, "101", "102", "103", "104")
		got := d.assign()
		next := IDs{Have: ranges{}}
		for a, ra := range got {
			next.Have[a] = ra.now
			for b, rb := range got {
				if a != b && idrange.Overlaps(ra.own, rb.own) {
					t.Errorf("%v: %s and %s both have %s", have, a, b, idrange.Text(ra.own))
				}
			}
		}
		again := housed(next, "104", "103", "102", "101").assign()
		for id, r := range again {
			if r.own != got[id].own || !r.isOwn() {
				t.Errorf("%v: %s had %v and gets %v", have, id, got[id], r)
			}
		}
		next.Kept, next.Have = maps.Clone(next.Have), nil // all are deleted, their volumes are kept
		for id, r := range housed(next, "104", "105", "101").assign() {
			if kept, has := next.Kept[id]; has && r.own != kept {
				t.Errorf("%v: %s had %v and gets %v", have, id, kept, r)
			}
		}
	}
}

func TestAssignOthers(t *testing.T) {
	d := housed(IDs{Have: ranges{"101": slot(1)}, Move: true}, "101", "102")
	d.cfg.Containers[1].Unprivileged = false
	d.cfg.Containers = append(d.cfg.Containers, &Container{ID: "900", Unprivileged: true})
	d.house.templates = map[string]bool{"900": true}
	if got := slices.Sorted(maps.Keys(d.assign())); !reflect.DeepEqual(got, []string{"101"}) {
		t.Errorf("a privileged container or a template is given ids of its own: %v", got)
	}
	if m := d.templateIDs(d.cfg.Containers[2]); m != slot(0) {
		t.Errorf("templates have %s", idrange.Text(m))
	}
	d.machine.Proxmox = &spec.Proxmox{}
	d.ranges = d.assign()
	if got := slices.Sorted(maps.Keys(d.ranges)); !reflect.DeepEqual(got, []string{"101"}) ||
		d.ranges["101"].own != slot(1) {
		t.Errorf("on Proxmox: %+v", d.ranges)
	}
	for i, want := range []spec.IDMap{slot(1), {}, idrange.Shared} {
		if c := d.cfg.Containers[i]; d.idMap(c) != want {
			t.Errorf("Proxmox makes %s in %s, want %s", c.ID, idrange.Text(d.idMap(c)), idrange.Text(want))
		}
	}
}

func TestOwnIDsObject(t *testing.T) {
	for name, tc := range map[string]struct {
		ids                IDs
		now, stays, waited bool
	}{
		"new":      {IDs{}, false, false, true},
		"its own":  {IDs{Have: ranges{"101": slot(1)}}, false, false, true},
		"as it is": {IDs{Have: ranges{"101": idrange.Shared}}, true, true, false},
		"planned":  {IDs{Plan: true, Have: ranges{"101": idrange.Shared}}, true, false, false},
		"moved":    {IDs{Move: true, Have: ranges{"101": idrange.Shared}}, true, false, true},
		"held": {IDs{Move: true, Plan: true, Held: "later", Have: ranges{"101": idrange.Shared}}, true, true,
			false},
	} {
		tc.ids.Claims = "/claims"
		d := housed(tc.ids, "101")
		d.ranges = d.assign()
		s, address := d.ownIDs(d.cfg.Containers[0])
		if s.IDMap != slot(1) || s.Claims != "/claims" || s.Path != "/r/lxc" || s.Held != tc.ids.Held {
			t.Errorf("%s: %+v", name, s)
		}
		if (s.Now != nil) != tc.now || s.Stays != tc.stays || (address == "ids/101") != tc.waited {
			t.Errorf("%s: %+v, waited for as %q", name, s, address)
		}
	}
	full := housed(IDs{None: true}, "101")
	full.ranges = full.assign()
	if s, address := full.ownIDs(full.cfg.Containers[0]); s != nil || address != "" {
		t.Errorf("without a range: %+v %q", s, address)
	}
}

func TestTellIDs(t *testing.T) {
	ann := []idrange.Claim{{Who: "ann", File: "/etc/subuid", Line: 3, IDMap: idrange.Shared}}
	both := ranges{"101": idrange.Shared, "102": idrange.Shared}
	for name, tc := range map[string]struct {
		ids     IDs
		proxmox bool
		want    []string // one for each diagnostic, in order
	}{
		"nothing": {IDs{Have: ranges{"101": slot(1)}}, false, nil},
		"a block": {IDs{None: true}, false, []string{"error: there are no ids for containers 101, 102"}},
		"shared": {IDs{Have: both}, false, []string{"warning: containers 101, 102: the ids 100000:65536 are no " +
			"range of its own"}},
		"a user": {IDs{Have: both, Others: ann}, false, []string{"warning: the ids 100000:65536 of containers " +
			"101, 102 are ann's too", "warning: containers 101, 102"}},
		"moved": {IDs{Move: true, Have: both}, false, nil},
		"moved, ann": {IDs{Move: true, Have: both, Others: ann}, false, []string{"warning: the ids 100000:65536 of " +
			"containers 101, 102 are ann's too"}},
		"held":       {IDs{Move: true, Held: "end it first", Have: both}, false, []string{"end it first"}},
		"privileged": {IDs{Have: ranges{"101": {}}}, false, []string{"warning: container 101 runs privileged"}},
		"Proxmox": {IDs{Have: both}, true, []string{"warning: containers 101, 102: the ids 100000:65536 are no " +
			"range of its own"}},
		"Proxmox, ann": {IDs{Have: ranges{"101": slot(1), "102": slot(2)}, Others: ann}, true,
			[]string{"warning: the ids 100000:65536, which Proxmox makes template 900 in, are ann's too, who can " +
				"change what is cloned from it give ann another range: usermod"}},
		"Proxmox, no user": {IDs{}, true, nil},
	} {
		d := housed(tc.ids, "101", "102")
		if tc.proxmox {
			d.machine.Proxmox = &spec.Proxmox{}
			d.cfg.Containers = append(d.cfg.Containers, &Container{ID: "900", Unprivileged: true})
			d.house.templates = map[string]bool{"900": true}
		}
		d.ranges = d.assign()
		d.tellIDs()
		if len(d.diags) != len(tc.want) {
			t.Errorf("%s: %v", name, d.diags)
			continue
		}
		for i, x := range d.diags {
			severity := map[diag.Severity]string{diag.Error: "error", diag.Warning: "warning"}[x.Severity]
			if text := severity + ": " + x.Summary + " " + x.Hint; !strings.Contains(text, tc.want[i]) {
				t.Errorf("%s: %s, want %q", name, text, tc.want[i])
			}
		}
	}
}
