package cli

import (
	"encoding/json"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// cutElsewhere takes out what only the node of a cluster can do that a container is on. Of a container on another
// node its definition is left, which says where it is, and the pin of its root, which every node has: what depends
// on the container asks it over the network, as it does on one node. Nothing here waits for it.
func (s *session) cutElsewhere() {
	p := s.machine.Proxmox
	if p == nil {
		return
	}
	away := map[string]bool{}
	for _, id := range s.ids() {
		away[id] = provider.ProxmoxElsewhere(s.host, *p, id) != ""
	}
	var out []object.Object
	for _, o := range s.objects {
		switch {
		case !away[o.Container] || isTemplate(o.Address):
		case o.Address.Kind() == spec.KindContainer:
			o.After, o.Needs = nil, nil
		case o.Address.Kind() == spec.KindPin:
			o = s.pinFrom(o)
		default:
			continue
		}
		out = append(out, o)
	}
	if len(out) < len(s.objects) {
		s.objects = slices.Clip(engine.Among(out))
	}
}

// pinFrom is the pin of a CA that cannot be entered: what is pinned already. It belongs to no container, so that
// who needs it does not bring that one into a selection.
func (s *session) pinFrom(o object.Object) object.Object {
	var pin spec.Pin
	if decode(o.Spec, &pin) != nil {
		return o // its driver says why
	}
	pin.Fingerprint = s.machine.Pins.Root
	raw, err := json.Marshal(pin)
	if err != nil {
		return o
	}
	o.Spec, o.After, o.Needs, o.Container = raw, nil, nil, ""
	return o
}
