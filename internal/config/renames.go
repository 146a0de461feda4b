package config

import (
	"fmt"
	"net/netip"
)

// Move is something that a container had in the configuration that was applied and that another one has in the file.
// Where the first one still exists, the two would stand in each other's way, or the second would begin with nothing.
type Move struct {
	From, To string // ids; To is empty where nobody has it
	What     string // for people: "the CA", "the name web"
	Still    bool   // From is in the file too
	Hint     string
}

// Moves compares what was applied with the file, by what containers are and not by their ids: roles, names and
// addresses. Each container that is left is named once.
func Moves(applied, wanted *Config) (out []Move) {
	m := moves{applied: applied, wanted: wanted, told: map[[2]string]bool{}}
	m.roles()
	m.names()
	m.addresses()
	return m.out
}

type moves struct {
	applied, wanted *Config
	told            map[[2]string]bool
	out             []Move
}

func (m *moves) moved(from, to, what, hint string) {
	if from == to || from == "" || m.told[[2]string{from, to}] {
		return
	}
	m.told[[2]string{from, to}] = true
	_, still := m.wanted.Container(from)
	m.out = append(m.out, Move{From: from, To: to, What: what, Still: still, Hint: hint})
}

// roles are the CA, the gateway and the proxy: what each keeps and serves is in its container.
func (m *moves) roles() {
	before, after := survey(m.applied), survey(m.wanted)
	id := func(c *Container) string {
		if c == nil {
			return ""
		}
		return c.ID
	}
	if from, to := id(before.ca), id(after.ca); to != "" {
		m.moved(from, to, "the CA", fmt.Sprintf("its keys and the root that every client trusts are in container %s: "+
			"phoenix ca backup there, then phoenix ca restore in the new one; or give container %s the feature "+
			"step_ca again", from, from))
	} else if from != "" && m.has(from) {
		m.moved(from, "", "the CA", "its keys stay in container "+from+": phoenix delete "+from+", then phoenix apply "+
			"makes it again without them")
	}
	for _, r := range []struct{ what, from, to string }{{"the gateway", id(before.gateway), id(after.gateway)},
		{"the proxy", id(before.proxy), id(after.proxy)}} {
		if r.from == "" || r.to == "" && !m.has(r.from) {
			continue
		}
		m.moved(r.from, r.to, r.what, "what serves there would go on: phoenix delete "+r.from+", then phoenix apply"+
			" makes what the file asks for")
	}
}

func (m *moves) has(id string) bool {
	_, still := m.wanted.Container(id)
	return still
}

// names are those of containers: one that has another id now is another container to phoenix.
func (m *moves) names() {
	for _, c := range m.applied.Containers {
		for _, x := range m.wanted.Containers {
			if x.Name == c.Name && x.ID != c.ID && !m.isTemplate(c.ID) {
				m.moved(c.ID, x.ID, "the name "+c.Name, m.deleted(c.ID, "what is on its volumes stays there"))
			}
		}
	}
}

func (m *moves) isTemplate(id string) bool { return survey(m.applied).templates[id] }

// deleted is how a container goes away first.
func (m *moves) deleted(id, why string) string {
	if m.has(id) {
		return why + ": phoenix delete " + id + ", then phoenix apply"
	}
	return why + ": put container " + id + " back into the file, then phoenix delete " + id + ", and take it out again"
}

// addresses are those of containers that left the file: two that run with one address reach nobody.
func (m *moves) addresses() {
	has := map[netip.Addr]string{}
	for _, x := range m.wanted.Containers {
		has[x.Network.Address.Addr()] = x.ID
	}
	for _, c := range m.applied.Containers {
		if to := has[c.Network.Address.Addr()]; to != "" && to != c.ID && !m.has(c.ID) && !m.isTemplate(c.ID) {
			m.moved(c.ID, to, "the address "+c.Network.Address.Addr().String(), m.deleted(c.ID, "it still has it"))
		}
	}
}

// RootName is the name of the root that the file asks for; empty: the usual one.
func (c *Config) RootName() string { return c.Hypervisor.StepCA.RootName }
