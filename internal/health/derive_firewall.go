package health

import (
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// knocks are ports that are tried where those that are let in say nothing: somebody may listen on them.
var knocks = []int{22, 9000, 8443, 443, 80, 8080}

// node asks Proxmox once about all containers: what it costs does not grow with their number.
func (m *model) node(o object.Object, s spec.NodeFirewall) {
	m.add(kindSwitch, o, "", s)
	p := rulesParams{Proxmox: s.Proxmox, Later: true}
	for _, id := range sortedKeys(m.firewalls) {
		if f := m.firewalls[id]; f.Proxmox != nil && !f.Off {
			p.Guests = append(p.Guests, guestRules{ID: id, Address: f.Address, Open: f.Open})
		}
	}
	if len(p.Guests) > 0 {
		m.add(kindRules, o, "", p)
	}
}

// firewall tries, from other containers, what is let in and what is not. For each port one container that may connect
// stands for all; another one knocks where it may not, so that a house of many is not tried from each to each. On
// Proxmox an attempt tells nothing: the refusal of a closed port does not get through the two bridges of its firewall.
// There its rules are read (PHX-FW-004).
func (m *model) firewall(o object.Object, s spec.Firewall) {
	if s.Proxmox == nil && s.MAC != "" && m.isRunning(s.ID) {
		m.add(kindIdentity, o, "", s)
	}
	if !s.Restricts() || s.Proxmox != nil || !m.isRunning(s.ID) {
		return
	}
	others := m.others(s.ID)
	ports := letIn(s)
	open := map[string][]int{}
	for _, port := range ports {
		if i := slices.IndexFunc(others, func(id string) bool { return m.may(id, s, port) == spec.Accept }); i >= 0 {
			open[others[i]] = append(open[others[i]], port)
		}
	}
	for _, from := range sortedKeys(open) {
		m.flow(kindFlowOpen, o, s, from, open[from]...)
	}
	doors := slices.Concat(ports, knocks)
	for _, from := range others {
		if i := slices.IndexFunc(doors, func(port int) bool { return m.may(from, s, port) == spec.Drop }); i >= 0 {
			m.flow(kindFlowClosed, o, s, from, doors[i])
			return
		}
	}
}

func (m *model) flow(kind string, o object.Object, s spec.Firewall, from string, ports ...int) {
	var names []string
	for _, p := range ports {
		names = append(names, strconv.Itoa(p))
	}
	d := m.add(kind, o, from, flowParams{Address: s.Address, Ports: ports}).of(strings.Join(names, ","))
	d.via = append(d.via, s.ID)
}

// others are the containers that something can be asked from, those behind this one by number first: so that not one of
// them knocks everywhere.
func (m *model) others(id string) []string {
	all := m.entered()
	i := slices.IndexFunc(all, func(x string) bool { return compareScope(x, id) > 0 })
	if i < 0 {
		i = 0
	}
	return slices.DeleteFunc(slices.Concat(all[i:], all[:i]),
		func(x string) bool { return x == id || m.address(x) == "" })
}

// letIn are the ports of TCP that rules name, each once, as many as there is patience for.
func letIn(s spec.Firewall) []int {
	var out []int
	for _, r := range s.Rules {
		if r.Direction != spec.In || r.Action != spec.Accept || r.Proto != "tcp" || r.Ports == "" {
			continue
		}
		for part := range strings.SplitSeq(r.Ports, ",") {
			first, _, _ := strings.Cut(part, ":")
			if port, err := strconv.Atoi(first); err == nil && !slices.Contains(out, port) && len(out) < 5 {
				out = append(out, port)
			}
		}
	}
	return out
}

// may is what happens to a connection from a container to another: what its own firewall says, then the other's. Empty:
// nobody can tell.
func (m *model) may(from string, s spec.Firewall, port int) string {
	if own, has := m.firewalls[from]; has && own.Restricts() {
		if action, known := own.Verdict(spec.Out, "tcp", m.address(from), s.Address, port); !known ||
			action != spec.Accept {
			return ""
		}
	}
	action, known := s.Verdict(spec.In, "tcp", m.address(from), s.Address, port)
	if !known {
		return ""
	}
	return action
}

// apart tells whether only the proxy and the hypervisor may ask the backend of a route.
func (m *model) apart(backend string) bool {
	_, target, err := dialTarget(backend)
	if err != nil {
		return false
	}
	s, has := m.firewalls[m.containerAt(hostOf(target))]
	return has && s.Restricts()
}
