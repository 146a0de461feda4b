package plan

import (
	"fmt"
	"sort"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Order sorts objects so that each stands behind what it depends on, and otherwise keeps their order. Cycles, unknown
// dependencies and addresses that stand twice come back as diagnostics, all of them. It takes time linear in objects
// and edges.
func Order(objects []object.Object) ([]object.Object, diag.List) {
	g, diags := newGraph(objects)
	for i := range objects {
		g.visit(i, nil, &diags)
	}
	if diags.HasErrors() {
		return nil, diags
	}
	return g.sorted, diags
}

type graph struct {
	objects []object.Object
	index   map[object.Address]int
	state   []byte // 0 new, 1 on the way, 2 done
	sorted  []object.Object
}

func newGraph(objects []object.Object) (*graph, diag.List) {
	var diags diag.List
	g := &graph{objects: objects, index: make(map[object.Address]int, len(objects)), state: make([]byte, len(objects))}
	for i, o := range objects {
		if first, twice := g.index[o.Address]; twice {
			diags = append(diags, at(o, fmt.Sprintf("%s is asked for twice", o.Address),
				"the other one is at "+objects[first].Source.String()))
			continue
		}
		g.index[o.Address] = i
	}
	return g, diags
}

func (g *graph) visit(i int, way []object.Address, diags *diag.List) {
	o := g.objects[i]
	switch g.state[i] {
	case 2:
		return
	case 1:
		*diags = append(*diags, at(o, "dependency cycle: "+cycle(way, o.Address), "remove one of these dependencies"))
		return
	}
	g.state[i] = 1
	way = append(way, o.Address)
	for _, d := range o.Dependencies() {
		j, known := g.index[d]
		if !known {
			*diags = append(*diags, at(o, fmt.Sprintf("%s depends on %s, which nothing asks for", o.Address, d), ""))
			continue
		}
		g.visit(j, way, diags)
	}
	g.state[i] = 2
	g.sorted = append(g.sorted, o)
}

func at(o object.Object, summary, hint string) diag.Diagnostic {
	return diag.Diagnostic{File: o.Source.File, Line: o.Source.Line, Summary: summary, Hint: hint}
}

func cycle(way []object.Address, last object.Address) string {
	for i, a := range way {
		if a == last {
			way = way[i:]
			break
		}
	}
	parts := make([]string, 0, len(way)+1)
	for _, a := range append(way[:len(way):len(way)], last) {
		parts = append(parts, string(a))
	}
	return strings.Join(parts, " -> ")
}

// Select keeps the objects of the named containers and all that these depend on. A container that any of them depends
// on comes in whole, so that what is selected can be healthy by itself. Objects keep their order.
func Select(objects []object.Object, containers []string) []object.Object {
	index := make(map[object.Address]int, len(objects))
	members := map[string][]int{}
	for i, o := range objects {
		index[o.Address] = i
		if o.Container != "" {
			members[o.Container] = append(members[o.Container], i)
		}
	}
	in := make(map[int]bool, len(objects))
	var todo []int
	add := func(i int) {
		if !in[i] {
			in[i] = true
			todo = append(todo, i)
		}
	}
	for _, c := range containers {
		for _, i := range members[c] {
			add(i)
		}
	}
	for len(todo) > 0 {
		o := objects[todo[0]]
		todo = todo[1:]
		for _, d := range o.Dependencies() {
			if i, known := index[d]; known {
				add(i)
			}
		}
		for _, i := range members[o.Container] {
			add(i)
		}
	}
	return pick(objects, in)
}

func pick(objects []object.Object, in map[int]bool) []object.Object {
	indexes := make([]int, 0, len(in))
	for i := range in {
		indexes = append(indexes, i)
	}
	sort.Ints(indexes)
	out := make([]object.Object, 0, len(indexes))
	for _, i := range indexes {
		out = append(out, objects[i])
	}
	return out
}
