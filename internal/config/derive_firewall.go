package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// flow is a connection that phoenix needs. Without a source it is from anybody.
type flow struct {
	from, to netip.Addr
	proto    string
	port     int
	why      string
}

// flows are all that phoenix needs between the containers, the hypervisor and everybody else.
func (d *derivation) flows() []flow {
	var out []flow
	add := func(from, to *Container, port int, why string) {
		if from != nil && to != nil && from != to {
			out = append(out, flow{from.Network.Address.Addr(), to.Network.Address.Addr(), "tcp", port, why})
		}
	}
	h, own := d.house, d.cfg.Hypervisor.Network.Interface.Address.Addr()
	hypervisor := func(to *Container, port int, why string) {
		if to != nil && own.IsValid() {
			out = append(out, flow{own, to.Network.Address.Addr(), "tcp", port, why})
		}
	}
	hypervisor(h.ca, caPort, "health checks of the hypervisor")
	for _, c := range d.cfg.Containers {
		if h.templates[c.ID] {
			continue
		}
		add(c, h.ca, caPort, "clients of the CA")
		for _, x := range c.Certificates {
			for _, name := range withFirst(x.CommonName, x.DNSNames) {
				add(d.challenger(c, name), c, 80, "challenges of the CA")
			}
		}
		for _, n := range d.nameservers(c) {
			if at, err := netip.ParseAddr(n); err == nil {
				out = append(out, flow{c.Network.Address.Addr(), at, "udp", 53, "names"},
					flow{c.Network.Address.Addr(), at, "tcp", 53, "names"})
			}
		}
	}
	if len(h.routed()) > 0 {
		add(h.gateway, h.proxy, 443, "the gateway")
		add(h.gateway, h.proxy, spec.CoverPort, "the gateway, while the proxy is started anew")
		add(h.gateway, h.proxy, 80, "challenges of the CA by way of the gateway")
	}
	for _, r := range h.routes {
		add(h.proxy, r.container, r.container.TraefikService.Port, "the internal proxy")
		hypervisor(r.container, r.container.TraefikService.Port, "health checks of the hypervisor")
	}
	for _, c := range d.cfg.Containers {
		for _, p := range d.cfg.publishes(c) {
			if p.proto == "tcp" && !h.templates[c.ID] {
				hypervisor(c, p.port, "health checks of the hypervisor")
			}
		}
	}
	return append(out, d.public()...)
}

// public are the flows from anybody: what the gateway is for, or the proxy where names lead straight to it.
func (d *derivation) public() (out []flow) {
	open := func(to *Container) {
		for _, port := range []int{80, 443} {
			out = append(out, flow{to: to.Network.Address.Addr(), proto: "tcp", port: port, why: "anybody"})
		}
	}
	if d.house.gateway != nil {
		open(d.house.gateway)
	}
	if p := d.house.proxy; p != nil &&
		slices.ContainsFunc(d.house.routed(),
			func(n string) bool { return d.house.names[n] == p.Network.Address.Addr() }) {
		open(p)
	}
	return out
}

// challenger is who asks at a container's port 80 when the CA checks one of its names: the CA where the name leads
// there, else the gateway.
func (d *derivation) challenger(c *Container, name string) *Container {
	switch at := d.house.names[name]; {
	case at == c.Network.Address.Addr():
		return d.house.ca
	case d.house.gateway != nil && at == d.house.gateway.Network.Address.Addr():
		return d.house.gateway
	}
	return nil
}

// firewall adds who a container is on the network, and what may reach it. It stands before the container runs. Where
// the file says nothing about it, or that there is to be none, its identity is left.
func (d *derivation) firewall(c *Container, after ...object.Address) object.Address {
	s := spec.Firewall{ID: c.ID, Open: !c.Firewall.Enabled, Address: c.Network.Address.Addr().String(),
		Prune: d.machine.Prune, Proxmox: d.machine.Proxmox}
	if own := c.Network.Address6; own.IsValid() {
		s.Address6 = own.Addr().String()
	}
	provider := "pve"
	if !d.proxmox() {
		provider = "firewall"
		s.Port, s.Bridge, s.MAC = PortName(d.machine.Root, c.ID), c.Network.Bridge, d.mac(c)
	}
	if !s.Open {
		s.Rules = d.rules(c)
	}
	if d.proxmox() && c.Network.Address.Addr().Is4() && s.Address6 == "" {
		s.Rules = append([]spec.Rule{spec.Advertisements()}, s.Rules...)
	}
	o := on(c, spec.KindFirewall, provider)
	o.Source = c.source("firewall")
	return d.add(o, s, after...)
}

// rules are those of a container, first to last: what phoenix needs of certain hosts, so that nobody is locked out by
// mistake; what the users say; what is open to anybody, so that the users can shut somebody out.
func (d *derivation) rules(c *Container) []spec.Rule {
	own := c.Network.Address.Addr()
	d.allFlows()
	var named, public []flow
	for _, f := range d.to[own] {
		if f.from.IsValid() {
			named = append(named, f)
		} else {
			public = append(public, f)
		}
	}
	out, last := toward(own, allow(spec.In, named)), append(toward(own, allow(spec.In, public)), d.fromLAN(c)...)
	users := d.usersRules(c)
	if slices.ContainsFunc(users,
		func(r usersRule) bool { return r.Direction == spec.Out && r.Action != spec.Accept }) {
		out = append(out, allow(spec.Out, d.from[own])...)
	}
	for i, r := range users {
		same := toward(own, []spec.Rule{r.Rule})[0]
		if first, repeated := repeats(same, out, users[i+1:], last); repeated {
			d.noteRule(diag.Note, r, "the rule repeats another: it is left out",
				"the other one: "+first.Meaning()+" ("+first.Comment+")")
			continue
		}
		if dead := slices.IndexFunc(out,
			func(b spec.Rule) bool { return b.Action != r.Action && b.Covers(same) }); dead >= 0 {
			d.noteRule(diag.Warning, r, "the rule has no effect",
				"before it comes: "+out[dead].Meaning()+" ("+out[dead].Comment+")")
		}
		out = append(out, r.Rule)
	}
	for _, r := range last {
		if _, repeated := repeats(r, out, nil, nil); !repeated {
			out = append(out, r)
		}
	}
	return out
}

// toward gives rules about what comes in the container's own address as destination, where they name none: what reaches
// its port by another's address, stolen on the bridge, is not meant.
func toward(own netip.Addr, rules []spec.Rule) (out []spec.Rule) {
	for _, r := range rules {
		if r.Direction == spec.In && r.Dest == "" && own.Is4() && r.Proto != "icmpv6" && r.Proto != "ipv6-icmp" {
			r.Dest = own.String()
		}
		out = append(out, r)
	}
	return out
}

// repeats finds a rule that makes another one needless: one before it, or the last ones where no other word comes
// between.
func repeats(r spec.Rule, before []spec.Rule, between []usersRule, last []spec.Rule) (spec.Rule, bool) {
	needless := func(b spec.Rule) bool {
		return b.Action == r.Action && (b.Covers(r) || b.Direction == spec.Group && b.Meaning() == r.Meaning())
	}
	if i := slices.IndexFunc(before, needless); i >= 0 {
		return before[i], true
	}
	if slices.ContainsFunc(between, func(b usersRule) bool { return b.Action != r.Action && b.Meets(r) }) {
		return spec.Rule{}, false
	}
	if i := slices.IndexFunc(last, needless); i >= 0 {
		return last[i], true
	}
	return spec.Rule{}, false
}

// allow writes flows as rules, those that differ only in who is at the other end as one.
func allow(direction string, flows []flow) []spec.Rule {
	var out []spec.Rule
	ends := map[int][]string{}
	for _, f := range flows {
		r := spec.Rule{Direction: direction, Action: spec.Accept, Proto: f.proto, Ports: strconv.Itoa(f.port),
			Comment: f.why}
		i := slices.Index(out, r)
		if i < 0 {
			i = len(out)
			out = append(out, r)
		}
		far := f.from
		if direction == spec.Out {
			far = f.to
		}
		if far.IsValid() {
			ends[i] = append(ends[i], far.String())
		}
	}
	var rules []spec.Rule
	for i, r := range out {
		far, _ := spec.Addresses(strings.Join(ends[i], ",")) // they were addresses before
		for part := range slices.Chunk(strings.Split(far, ","), mostAddresses) {
			if r.Source = strings.Join(part, ","); direction == spec.Out {
				r.Source, r.Dest = "", r.Source
			}
			rules = append(rules, r)
		}
	}
	return joined(rules)
}

// mostAddresses is how many fit into a rule of Proxmox's, which has room for 512 characters.
const mostAddresses = 25

// joined makes one rule of those that differ in their ports only.
func joined(rules []spec.Rule) (out []spec.Rule) {
	for _, r := range rules {
		i := slices.IndexFunc(out, func(x spec.Rule) bool { x.Ports = r.Ports; return x == r })
		if i < 0 {
			out = append(out, r)
			continue
		}
		out[i].Ports, _ = spec.Ports(out[i].Ports + "," + r.Ports) // numbers, both
	}
	return out
}

// usersRule is a rule with the place that it stands in.
type usersRule struct {
	spec.Rule
	at At
}

func (d *derivation) noteRule(severity diag.Severity, r usersRule, summary, hint string) {
	d.diags = append(d.diags,
		at(r.at, "", diag.Diagnostic{Severity: severity, Summary: "firewall: " + summary, Detail: r.Meaning(),
			Hint: hint}))
}

// usersRules are the users' rules that are switched on and that can be kept here.
func (d *derivation) usersRules(c *Container) (out []usersRule) {
	for _, x := range c.Firewall.Rules {
		rule, err := x.rule()
		if err != nil || x.Enable.Off {
			continue
		}
		r := usersRule{rule, x.At}
		r.Comment = cmp.Or(r.Comment, "of the configuration")
		if r.Interface == c.Network.Name {
			r.Interface = "net0"
		}
		if d.proxmox() || d.plainRule(&r) {
			out = append(out, r)
		}
	}
	return out
}

// plainRule makes a rule one that nftables can keep; false: it cannot.
func (d *derivation) plainRule(r *usersRule) bool {
	names := func(text string) bool { _, err := spec.Addresses(text); return err != nil }
	switch {
	case r.Direction == spec.Group || r.Macro != "" || names(r.Source) || names(r.Dest):
		d.noteRule(diag.Warning, *r, "the rule is not acted on: groups, macros, IP sets and aliases are Proxmox's",
			`say it with "proto", "port" and "source"`)
		return false
	case r.Interface != "" && r.Interface != "net0":
		d.noteRule(diag.Warning, *r, "the rule is not acted on: the container has no interface "+r.Interface,
			`leave "iface" out`)
		return false
	case r.Action == spec.Reject:
		d.noteRule(diag.Note, *r, "REJECT is DROP here: a bridge does not answer", "")
		r.Action = spec.Drop
	}
	r.Interface = ""
	return true
}

// FilterOff is told where a switch that phoenix does not put on without consent keeps the rules from having any effect.
const FilterOff = "Proxmox's firewall is off for the whole cluster: the rules of the containers have no effect, and " +
	"they can use each other's addresses"

// nodeFirewall adds what the Proxmox host itself must let in once its firewall is on, and tells where that is off.
// Containers that ask for no firewall need it too: it keeps each to its own addresses.
func (d *derivation) nodeFirewall() object.Address {
	i := slices.IndexFunc(d.cfg.Containers, func(c *Container) bool { return !d.house.templates[c.ID] })
	if i < 0 || !d.proxmox() {
		return ""
	}
	if j := slices.IndexFunc(d.cfg.Containers,
		func(c *Container) bool { return c.Firewall.Enabled && !d.house.templates[c.ID] }); j >= 0 {
		i = j
	}
	source := d.cfg.Containers[i].source("firewall")
	s := spec.NodeFirewall{On: d.machine.FilterOn, Proxmox: *d.machine.Proxmox}
	if iface := d.cfg.Hypervisor.Network.Interface; d.cfg.Hypervisor.DNS.Enabled && iface.Address.IsValid() {
		for _, proto := range []string{"udp", "tcp"} {
			s.Rules = append(s.Rules, spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: proto, Ports: "53",
				Source:  iface.Address.Masked().String(),
				Comment: "names for the containers"})
		}
	}
	if !d.machine.Filters && !d.machine.FilterOn {
		d.note(diag.Warning, source, FilterOff,
			"phoenix apply --yes puts it on, for the nodes themselves too: from then on they take from outside of "+
				"their own network what their rules let in")
	}
	return d.add(object.Object{Address: object.NewAddress(spec.KindNode, "firewall"), Provider: "pve", Source: source},
		s)
}
