package health

import (
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// draft is a check with what is needed to order it among the others.
type draft struct {
	Check
	ca  string   // container of the CA that it asks
	via []string // other containers that must run for it
}

// model is what the objects say about one another.
type model struct {
	objects    []object.Object // by address
	byAddress  map[object.Address]object.Object
	containers map[string]spec.Container
	running    map[string]spec.Running
	authority  map[string]spec.StepCA // by container
	firewalls  map[string]spec.Firewall
	sites      []gatewaySite
	drafts     []*draft
}

// gatewaySite is a name that a gateway forwards.
type gatewaySite struct {
	spec.NginxSite
	gateway object.Object
	proxy   string // container that Upstream is in; empty: none of ours
}

// Derive gives the checks of the objects, whose specs need not be resolved yet. It is pure, and the same objects give
// the same checks in the same order. A spec that cannot be read becomes a check that says so.
func Derive(objects []object.Object) []Check {
	m := newModel(objects)
	for _, o := range m.objects {
		if d, ok := derivers()[o.Address.Kind()]; ok && d != nil {
			d(m, o)
		}
	}
	m.headroom()
	m.machine(MachineOf(m.objects))
	m.insideChecks()
	m.clientRoutes()
	m.order()
	out := make([]Check, len(m.drafts))
	for i, d := range m.drafts {
		out[i] = d.Check
	}
	return out
}

// derivers has the checks of every kind of object. nil: the object has none of its own, on purpose. Those are kept true
// by plan and apply, and what they are for is checked where it matters.
func derivers() map[string]func(*model, object.Object) {
	return map[string]func(*model, object.Object){
		spec.KindNetwork:     each((*model).network),
		spec.KindDNS:         each((*model).dns),
		spec.KindVolume:      each((*model).volume),
		spec.KindContainer:   each((*model).container),
		spec.KindIDs:         each((*model).ids),
		spec.KindRunning:     each((*model).runs),
		spec.KindPin:         each((*model).pin),
		spec.KindHostTrust:   each((*model).hostTrust),
		spec.KindUnit:        each((*model).unit),
		spec.KindTrust:       each((*model).trust),
		spec.KindStepCA:      each((*model).stepCA),
		spec.KindCertificate: each((*model).certificate),
		spec.KindNginx:       each((*model).nginx),
		spec.KindTraefik:     each((*model).traefik),
		spec.KindAgent:       (*model).agent,
		spec.KindFirewall:    each((*model).firewall),
		spec.KindNode:        each((*model).node),
		spec.KindAccess:      each((*model).lan),

		spec.KindHostFirewall: each((*model).hostFirewall),

		spec.KindTemplate: nil, // used only while a container is made
		spec.KindSnapshot: nil, // a state that was, not one that is
		spec.KindSubID:    nil, // without the range no unprivileged container starts (PHX-CT-001)
		spec.KindStorage:  nil, // of the machine, for setup
		spec.KindSysctl:   nil, // the same; what is left of those limits is PHX-HOST-001
		spec.KindBinary:   nil, // without it nothing answers inside (PHX-CT-006)
		spec.KindPort:     nil, // unplugged, the container reaches neither resolver nor CA: their checks say so
		spec.KindFile:     nil,
		spec.KindUser:     nil,
		spec.KindPackage:  nil,
		spec.KindScript:   nil,
	}
}

// each decodes the spec for a deriver.
func each[S any](derive func(*model, object.Object, S)) func(*model, object.Object) {
	return func(m *model, o object.Object) {
		s, err := decode[S](o.Spec)
		if err != nil {
			m.add(kindUnreadable, o, "", unreadable{err.Error()})
			return
		}
		derive(m, o, s)
	}
}

func newModel(objects []object.Object) *model {
	m := &model{
		byAddress:  map[object.Address]object.Object{},
		containers: map[string]spec.Container{}, running: map[string]spec.Running{},
		authority: map[string]spec.StepCA{},
		firewalls: map[string]spec.Firewall{},
	}
	for _, o := range objects {
		if _, twice := m.byAddress[o.Address]; !twice {
			m.objects = append(m.objects, o)
		}
		m.byAddress[o.Address] = o
	}
	slices.SortFunc(m.objects, func(a, b object.Object) int { return compareAddress(a.Address, b.Address) })
	for _, o := range m.objects {
		keep(m.containers, spec.KindContainer, o)
		keep(m.running, spec.KindRunning, o)
		keep(m.authority, spec.KindStepCA, o)
		keep(m.firewalls, spec.KindFirewall, o)
	}
	for _, o := range m.objects {
		m.collectSites(o)
	}
	return m
}

// keep files an object's spec under its container if it is of the kind. Unreadable ones are reported by each.
func keep[S any](into map[string]S, kind string, o object.Object) {
	if o.Address.Kind() != kind {
		return
	}
	if s, err := decode[S](o.Spec); err == nil {
		into[o.Address.Scope()] = s
	}
}

func (m *model) collectSites(o object.Object) {
	if o.Address.Kind() != spec.KindNginx {
		return
	}
	n, err := decode[spec.Nginx](o.Spec)
	if err != nil || n.Part != spec.NginxTLS { // forwards nothing yet
		return
	}
	for _, s := range n.Sites {
		if s.Upstream != "" {
			m.sites = append(m.sites, gatewaySite{NginxSite: s, gateway: o, proxy: m.containerAt(hostOf(s.Upstream))})
		}
	}
}

// containerAt is the container with an address; empty: none.
func (m *model) containerAt(name string) string {
	for _, id := range sortedKeys(m.containers) {
		if ip := m.address(id); ip != "" && ip == name {
			return id
		}
	}
	return ""
}

// address is a container's own, without the prefix length; empty where it has none.
func (m *model) address(id string) string {
	p, err := netip.ParsePrefix(m.containers[id].Interface.Address)
	if err != nil {
		return ""
	}
	return p.Addr().String()
}

// add drafts a check of o that runs on host.
func (m *model) add(kind string, o object.Object, on string, params any) *draft {
	e, _, _ := lookup(kind)
	raw, err := json.Marshal(params)
	if err != nil { // not with the types of this package
		raw, _ = json.Marshal(unreadable{err.Error()})
	}
	d := &draft{Check: Check{ID: e.id, Object: o.Address, Host: on, Kind: kind, Params: raw}}
	if r, ok := m.running[d.container()]; ok {
		d.Enter = enter(r)
	}
	m.drafts = append(m.drafts, d)
	return d
}

// enter is how a person gets into a container.
func enter(r spec.Running) string {
	argv := []string{"lxc-attach"}
	if r.Path != "" {
		argv = append(argv, "-P", r.Path)
	}
	return host.Quote(append(argv, "-n", r.ID, "--"))
}

// of names what of the object the check is about.
func (d *draft) of(subject string) *draft {
	d.Subject = subject
	return d
}

// asks says which CA the check asks, from where it is reached over the network, and that its root must be the pinned
// one.
func (d *draft) asks(ca string, needs []object.Need) *draft {
	d.ca = ca
	d.Needs = needs
	if ca != d.Host && ca != "" {
		d.via = append(d.via, ca)
	}
	return d
}

// anchored gives the needs for an object's fingerprint: its own, moved to where a check keeps it, or the CA's pin.
func (m *model) anchored(o object.Object, have string) (ca string, needs []object.Need) {
	for _, n := range o.Needs {
		if n.Into == "/"+fingerprintField {
			return n.From.Scope(), []object.Need{{From: n.From, Field: n.Field, Into: "/anchor/" + fingerprintField}}
		}
	}
	ca = o.Address.Scope()
	if _, own := m.authority[ca]; !own {
		ca = first(sortedKeys(m.authority))
	}
	if have != "" || ca == "" {
		return ca, nil
	}
	return ca, pinned(ca)
}

func pinned(ca string) []object.Need {
	return []object.Need{{From: object.NewAddress(spec.KindPin, ca), Field: fingerprintField,
		Into: "/anchor/" + fingerprintField}}
}

// compareAddress orders by kind, then container by number, then name.
func compareAddress(a, b object.Address) int {
	return cmp.Or(cmp.Compare(a.Kind(), b.Kind()), compareScope(a.Scope(), b.Scope()), cmp.Compare(a, b))
}

func compareScope(a, b string) int {
	x, errA := strconv.Atoi(a)
	y, errB := strconv.Atoi(b)
	if errA == nil && errB == nil {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a, b)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareScope)
	return keys
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// hostOf is the name or address in host:port.
func hostOf(address string) string {
	if name, _, err := net.SplitHostPort(address); err == nil {
		return name
	}
	return address
}
