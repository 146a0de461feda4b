package health

import (
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (m *model) network(o object.Object, s spec.Network) { m.add(kindBridge, o, "", s) }

func (m *model) dns(o object.Object, s spec.DNS) {
	records := recordsOf(s)
	if len(s.Listen) == 0 || len(records) == 0 {
		return
	}
	m.add(kindResolver, o, "", namesParams{Servers: s.Listen, Records: records}).of(s.Name)
	for _, id := range m.entered() {
		if asksResolver(m.containers[id], s) {
			running := object.Object{Address: object.NewAddress(spec.KindRunning, id)}
			m.add(kindNames, running, id, namesParams{Records: records}).of(s.Name)
		}
	}
}

func recordsOf(s spec.DNS) []spec.Record {
	var out []spec.Record
	for _, z := range s.Zones {
		out = append(out, z.Records...)
	}
	return out
}

// asksResolver tells whether a container is meant to use a resolver: it names it, or names none and is on its bridge.
func asksResolver(c spec.Container, s spec.DNS) bool {
	for _, n := range c.Nameservers {
		if slices.Contains(s.Listen, n) {
			return true
		}
	}
	return len(c.Nameservers) == 0 && c.Interface.Bridge == s.Name
}

// entered are the containers that run and in which something lives that phoenix keeps true, by number.
func (m *model) entered() []string {
	inside := map[string]bool{}
	for _, o := range m.objects {
		if o.Host != "" && m.isRunning(o.Host) {
			inside[o.Host] = true
		}
	}
	return sortedKeys(inside)
}

func (m *model) isRunning(id string) bool {
	_, ok := m.byAddress[object.NewAddress(spec.KindRunning, id)]
	return ok
}

func (m *model) runs(o object.Object, s spec.Running) {
	check, again := s.Check, s.Again
	s.Check, s.Again, s.Listens, s.AnyPort = "", nil, nil, false
	m.add(kindRunning, o, "", s)
	if check != "" {
		m.add(kindCommand, o, s.ID, commandParams{Command: check}).Again = again
	}
}

func (m *model) container(o object.Object, s spec.Container) {
	r, ok := m.running[s.ID]
	if ok && s.IDMap != (spec.IDMap{}) {
		d := m.add(kindIDMap, o, "", idMapParams{Running: r, IDMap: s.IDMap})
		d.via = []string{s.ID}
	}
}

// insideChecks are those of every container that phoenix enters.
func (m *model) insideChecks() {
	for _, id := range m.entered() {
		o := m.byAddress[object.NewAddress(spec.KindRunning, id)]
		m.add(kindInside, o, id, nothing{})
		var units []string
		for _, u := range m.objects {
			if u.Host == id && u.Address.Kind() == spec.KindUnit {
				units = append(units, u.Address.Name())
			}
		}
		if _, ok := m.byAddress[object.NewAddress(spec.KindAgent, id)]; ok && !slices.Contains(units, DaemonUnit) {
			units = append(units, DaemonUnit)
		}
		m.add(kindSystemd, o, id, systemdParams{Units: units})
		if r := m.running[id]; !r.AnyPort {
			m.add(kindListening, o, id, listeningParams{Wanted: r.Listens})
		}
	}
}

func (m *model) agent(o object.Object) {
	m.add(kindDaemon, o, o.Host, nothing{})
	m.add(kindRound, o, o.Host, nothing{})
}

func (m *model) unit(o object.Object, s spec.Unit) {
	if s.Name == DaemonUnit {
		return // PHX-CT-002 says more
	}
	m.add(kindUnit, o, o.Host, unitParams{Name: s.Name, Ready: s.Ready, Stopped: s.Stopped, Oneshot: s.Oneshot})
}

func (m *model) volume(o object.Object, s spec.Volume) {
	if s.Proxmox == nil { // Proxmox's storages are its own; what is seen inside tells
		m.add(kindVolumeOwner, o, "", s)
		if s.HostDirectory == nil { // what is above the users' own directory is theirs
			m.add(kindVolumeParents, o, "", s)
		}
	}
	owner, ok := m.running[s.Container]
	if !ok {
		owner = spec.Running{ID: s.Container, Path: m.containers[s.Container].Path}
	}
	p := aloneParams{Volume: s, Owner: owner, LXCPath: owner.Path}
	for _, id := range sortedKeys(m.running) {
		if id != s.Container {
			p.Others = append(p.Others, m.running[id])
		}
	}
	if s.HostDirectory == nil || !s.HostDirectory.Shared {
		m.add(kindVolumeAlone, o, "", p)
	}
	if slices.Contains(m.entered(), s.Container) {
		m.add(kindVolumeMount, o, s.Container, s)
	}
}
