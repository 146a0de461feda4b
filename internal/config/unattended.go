package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Waiting is an object that the file asks for otherwise than the configuration that was applied, where the change needs
// a person: it might interrupt, close or remove something.
type Waiting struct {
	Address   object.Address `json:"object"`
	Container string         `json:"container,omitempty"`
	Reason    string         `json:"reason"`
}

// Unattended gives what may be kept without a person: of the objects of the applied configuration and those of the
// file, for each the file's where the change interrupts nothing, closes nothing and removes nothing, else the applied
// one. With safe false only what is the same in both is the file's. The objects may depend on some that are not among
// them.
func Unattended(applied, wanted []object.Object, safe bool) ([]object.Object, []Waiting) {
	s := &unattended{old: index(applied), new: index(wanted), safe: safe, waits: map[object.Address]string{}}
	s.containers(applied, wanted)
	for _, o := range wanted {
		if why := s.why(o); why != "" {
			s.waits[o.Address] = why
		}
	}
	for _, o := range applied {
		if _, still := s.new[o.Address]; !still {
			s.waits[o.Address] = "no longer in the file"
		}
	}
	s.complete(wanted)
	return s.merge(applied, wanted), s.waiting(applied, wanted)
}

type unattended struct {
	old, new map[object.Address]object.Object
	made     map[string]bool // containers and templates of the applied configuration
	gone     map[string]bool // those that the file has no more
	safe     bool
	waits    map[object.Address]string // why
}

func index(objects []object.Object) map[object.Address]object.Object {
	out := make(map[object.Address]object.Object, len(objects))
	for _, o := range objects {
		out[o.Address] = o
	}
	return out
}

func (s *unattended) containers(applied, wanted []object.Object) {
	s.made, s.gone = map[string]bool{}, map[string]bool{}
	still := map[string]bool{}
	for _, o := range wanted {
		still[o.Container] = true
	}
	for _, o := range applied {
		s.made[o.Container], s.gone[o.Container] = true, !still[o.Container]
	}
}

// why tells why an object of the file has to wait; empty: it need not.
func (s *unattended) why(o object.Object) string {
	old, known := s.old[o.Address]
	switch {
	case o.Address.Kind() == spec.KindAgent:
		return "" // it is put together of what the others are
	case known && same(old, o):
		return ""
	case !s.safe:
		return "the file asks for it otherwise"
	case !known && o.Container != "" && !s.made[o.Container]:
		return ""
	case !known:
		return s.whyNew(o)
	case old.Provider != o.Provider:
		return "another provider"
	case o.Address.Kind() == spec.KindTemplate || grows(o.Address.Kind(), old.Spec, o.Spec):
		return "" // a template is for containers that are still to be made
	}
	return "changed: " + strings.Join(differing(old.Spec, o.Spec), ", ")
}

// whyNew is why for what is new in a container that exists, or on the hypervisor.
func (s *unattended) whyNew(o object.Object) string {
	switch o.Address.Kind() {
	case spec.KindSubID:
		return ""
	case spec.KindTraefik:
		return ""
	case spec.KindCertificate:
		var c spec.Certificate
		if json.Unmarshal(o.Spec, &c) != nil {
			return "new"
		}
		for _, x := range s.old {
			var other spec.Certificate
			if x.Container == o.Container && x.Address.Kind() == spec.KindCertificate &&
				json.Unmarshal(x.Spec, &other) == nil &&
				(other.CertPath == c.CertPath || other.KeyPath == c.KeyPath) {
				return "takes the place of " + string(x.Address)
			}
		}
		return ""
	}
	return "new in what exists"
}

// complete has those wait, too, that need to know something of what waits and is not there yet.
func (s *unattended) complete(wanted []object.Object) {
	for again := true; again; {
		again = false
		for _, o := range wanted {
			_, waits := s.waits[o.Address]
			if waits || o.Address.Kind() == spec.KindAgent {
				continue
			}
			for _, n := range o.Needs {
				_, there := s.old[n.From]
				if _, dep := s.waits[n.From]; dep && !there {
					s.waits[o.Address], again = "needs "+string(n.From)+", which waits", true
				}
			}
		}
	}
}

// merge takes each object from where it comes.
func (s *unattended) merge(applied, wanted []object.Object) []object.Object {
	var out []object.Object
	for _, o := range wanted {
		_, waits := s.waits[o.Address]
		old, known := s.old[o.Address]
		switch {
		case o.Address.Kind() == spec.KindAgent && known:
			out = append(out, s.agent(old, o))
		case !waits:
			out = append(out, o)
		case known:
			out = append(out, old)
		}
	}
	for _, o := range applied {
		if _, still := s.new[o.Address]; !still {
			out = append(out, o)
		}
	}
	return out
}

// waiting lists what waits: a container that is gone from the file once.
func (s *unattended) waiting(applied, wanted []object.Object) (out []Waiting) {
	for _, o := range slices.Concat(wanted, applied) {
		why, waits := s.waits[o.Address]
		if !waits || s.gone[o.Container] && o.Container != "" && o.Address.Kind() != spec.KindContainer &&
			o.Address.Kind() != spec.KindTemplate {
			continue
		}
		if slices.ContainsFunc(out, func(w Waiting) bool { return w.Address == o.Address }) {
			continue
		}
		out = append(out, Waiting{Address: o.Address, Container: o.Container, Reason: why})
	}
	return out
}

// agent puts the list of what a container's daemon keeps together of the entries of both lists, so that the daemon does
// not do what waits.
func (s *unattended) agent(old, new object.Object) object.Object {
	var have, want spec.Agent
	if json.Unmarshal(old.Spec, &have) != nil || json.Unmarshal(new.Spec, &want) != nil {
		return old
	}
	waits := func(x object.Object) bool { return s.waits[x.Address] != "" }
	if !slices.ContainsFunc(have.Objects, waits) && !slices.ContainsFunc(want.Objects, waits) {
		return new
	}
	out := new
	out.Needs, out.After = nil, new.After
	list := spec.Agent{Binary: want.Binary, SHA256: want.SHA256}
	take := func(from object.Object, i int, x object.Object) {
		at := fmt.Sprintf("/objects/%d/", i)
		for _, n := range from.Needs {
			if rest, ok := strings.CutPrefix(n.Into, at); ok {
				n.Into = fmt.Sprintf("/objects/%d/%s", len(list.Objects), rest)
				out.Needs = append(out.Needs, n)
			}
		}
		list.Objects = append(list.Objects, x)
	}
	for i, x := range have.Objects {
		j := slices.IndexFunc(want.Objects, func(y object.Object) bool { return y.Address == x.Address })
		if _, waits := s.waits[x.Address]; waits || j < 0 {
			take(old, i, x)
		} else {
			take(new, j, want.Objects[j])
		}
	}
	for j, x := range want.Objects {
		_, waits := s.waits[x.Address]
		if _, known := object.Find(have.Objects, x.Address); !known && !waits {
			take(new, j, x)
		}
	}
	raw, err := json.Marshal(list)
	if err != nil { // specs are plain data
		return old
	}
	out.Spec = raw
	return out
}

// same is whether two objects ask for the same. Where they stand in the file means nothing.
func same(a, b object.Object) bool {
	return a.Provider == b.Provider && a.Host == b.Host && a.Container == b.Container &&
		string(a.Spec) == string(b.Spec) &&
		slices.Equal(a.Needs, b.Needs)
}

// differing are the top-level keys whose values differ; never the values.
func differing(a, b json.RawMessage) []string {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return []string{"all of it"}
	}
	var out []string
	for key := range maps.Keys(x) {
		if !reflect.DeepEqual(x[key], y[key]) {
			out = append(out, key)
		}
	}
	for key := range maps.Keys(y) {
		if _, known := x[key]; !known {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}
