package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

func obj(container, kind string, after ...object.Address) object.Object {
	return object.Object{Address: object.NewAddress(kind, container), Container: container, After: after}
}

func TestCompare(t *testing.T) {
	var d Delta
	d.Compare("mode", "0600", "0600")
	if !d.Empty() {
		t.Errorf("equal values differ: %+v", d)
	}
	d.Compare("mode", "0644", "0600")
	if d.Action != Update || !d.Has("mode") || d.Has("owner") {
		t.Errorf("%+v", d)
	}
	d = Delta{Action: Replace}
	d.Compare("mode", "0644", "0600")
	if d.Action != Replace {
		t.Errorf("a difference weakened the action: %+v", d)
	}
}

// Whatever comes in, each object stands behind what it depends on, and none is lost.
func TestOrderOfAnyGraph(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var objects []object.Object
		for i := range 1 + rnd.IntN(40) {
			o := obj(fmt.Sprint(i), "thing")
			for range rnd.IntN(4) {
				if i > 0 {
					o.After = append(o.After, objects[rnd.IntN(i)].Address)
				}
			}
			objects = append(objects, o)
		}
		rnd.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		ordered, diags := Order(objects)
		if diags.HasErrors() || len(ordered) != len(objects) {
			t.Fatalf("seed %d: %d of %d objects, %v", seed, len(ordered), len(objects), diags)
		}
		seen := map[object.Address]bool{}
		for _, o := range ordered {
			for _, d := range o.Dependencies() {
				if !seen[d] {
					t.Fatalf("seed %d: %s stands before %s", seed, o.Address, d)
				}
			}
			seen[o.Address] = true
		}
	}
}

// A container that is depended on comes in whole, and what it depends on with it.
func TestSelect(t *testing.T) {
	objects := []object.Object{
		{Address: "network/br0"}, {Address: "network/br1"},
		obj("103", "container", "network/br0"), obj("103", "running", "container/103"),
		obj("103", "agent", "running/103"),
		obj("101", "container", "network/br0"), obj("101", "certificate", "container/101", "running/103"),
		obj("201", "container", "network/br1"),
	}
	var got []object.Address
	for _, o := range Select(objects, []string{"101"}) {
		got = append(got, o.Address)
	}
	want := []object.Address{"network/br0", "container/103", "running/103", "agent/103", "container/101",
		"certificate/101"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if len(Select(objects, nil)) != 0 {
		t.Error("nothing asked for, something selected")
	}
}
