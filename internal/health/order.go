package health

import (
	"cmp"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// edge says that checks with id Then depend on checks with id If that are related to them.
type edge struct {
	then, first string
	related     func(m *model, then, first *draft) bool
}

// required are the edges without which a check cannot be asked at all.
func required() []edge {
	return []edge{
		{"", "PHX-CT-001", reaches},
		{"", "PHX-CT-006", sameHost},
		{"", "PHX-PIN-001", needed},
		{"PHX-CT-005", "PHX-CT-002", sameObject},
		{"PHX-CA-002", "PHX-CA-001", homeCA},
		{"PHX-CA-004", "PHX-CA-001", homeCA},
		{"PHX-CA-005", "PHX-CA-001", homeCA},
		{"PHX-TRUST-001", "PHX-CA-001", homeCA},
		{"PHX-CERT-002", "PHX-CERT-001", sameObject},
		{"PHX-CERT-003", "PHX-CERT-001", sameObject},
		{"PHX-CERT-004", "PHX-CERT-001", sameObject},
		{"PHX-CERT-005", "PHX-CERT-001", sameObject},
		{"PHX-VOL-003", "PHX-VOL-001", sameObject},
		{"PHX-FW-004", "PHX-FW-003", always},
	}
}

// likely are the edges along which a failure spreads, though a check may well pass without.
func likely() []edge {
	return []edge{
		{"PHX-NET-001", "PHX-HOST-003", sameBridge},
		{"PHX-DNS-002", "PHX-HOST-004", sameBridge},
		{"PHX-DNS-002", "PHX-NET-001", sameBridge},
		{"PHX-DNS-001", "PHX-HOST-005", always},
		{"PHX-ACC-001", "PHX-HOST-005", sameBridge},
		{"PHX-CT-001", "PHX-HOST-002", always},
		{"PHX-FW-001", "PHX-HOST-005", always},
		{"PHX-ACC-001", "PHX-NET-001", sameBridge},
		{"PHX-DNS-001", "PHX-DNS-002", sameSubject},
		{"PHX-CT-001", "PHX-NET-001", onBridge},
		{"PHX-UNIT-001", "PHX-VOL-003", sameContainer},
		{"PHX-FW-005", "PHX-CT-001", sameContainer}, // no port without a running container
		{"PHX-UNIT-001", "PHX-KEY-001", ofCA},
		{"PHX-UNIT-001", "PHX-CA-008", ofCA},
		{"PHX-KEY-001", "PHX-CA-008", sameObject},
		{"PHX-CA-009", "PHX-CA-008", sameObject},
		{"PHX-CA-001", "PHX-CA-008", sameCA},
		{"PHX-CT-005", "PHX-CA-008", sameHost},
		{"PHX-CA-003", "PHX-UNIT-001", atCA},
		{"PHX-CA-001", "PHX-CA-003", sameCA},
		{"PHX-CA-001", "PHX-UNIT-001", atCA},
		{"PHX-CLOCK-001", "PHX-UNIT-001", atCA},
		{"PHX-CLOCK-001", "PHX-DNS-001", sameHost},
		{"PHX-CA-001", "PHX-DNS-001", sameHost},
		{"PHX-CA-001", "PHX-CLOCK-001", sameHost},
		{"PHX-CA-001", "PHX-CA-001", awayFromHome},
		{"PHX-CA-001", "PHX-FW-001", theirs},
		{"PHX-CLOCK-001", "PHX-FW-001", theirs},
		{"PHX-ROUTE-001", "PHX-FW-001", theirs},
		{"PHX-ROUTE-002", "PHX-FW-001", theirs},
		{"PHX-CA-002", "PHX-CA-001", sameHost},
		{"PHX-CA-002", "PHX-CA-002", awayFromHome},
		{"PHX-CA-002", "PHX-TRUST-001", client},
		{"PHX-TRUST-001", "PHX-CA-001", sameHost},
		{"PHX-CERT-001", "PHX-CA-002", sameHost},
		{"PHX-CERT-001", "PHX-CT-002", sameHost},
		{"PHX-CERT-002", "PHX-TRUST-001", sameHost},
		{"PHX-CERT-004", "PHX-CA-002", sameHost},
		{"PHX-CERT-004", "PHX-CT-002", sameHost},
		{"PHX-CERT-005", "PHX-UNIT-001", behind},
		{"PHX-CERT-006", "PHX-UNIT-001", behind},
		{"PHX-CERT-006", "PHX-TRUST-001", sameHost},
		{"PHX-CERT-006", "PHX-CA-002", sameHost},
		{"PHX-KEY-001", "PHX-CERT-001", sameObject},
		{"PHX-CT-005", "PHX-CA-002", sameHost},
		{"PHX-CT-005", "PHX-UNIT-001", sameHost},
		{"PHX-ROUTE-001", "PHX-CA-001", homeCA},
		{"PHX-ROUTE-001", "PHX-UNIT-001", onTheWay},
		{"PHX-ROUTE-001", "PHX-CERT-005", onTheWay},
		{"PHX-ROUTE-001", "PHX-CERT-006", sameSubject},
		{"PHX-ROUTE-001", "PHX-ROUTE-002", sameBackend},
		{"PHX-ROUTE-001", "PHX-DNS-001", sameHost},
		{"PHX-ROUTE-001", "PHX-TRUST-001", sameHost},
	}
}

// order gives every draft its edges and sorts them as a report shows them.
func (m *model) order() {
	slices.SortStableFunc(m.drafts, func(a, b *draft) int {
		_, x, _ := lookup(a.Kind)
		_, y, _ := lookup(b.Kind)
		return cmp.Or(cmp.Compare(x, y), compareAddress(a.Object, b.Object), cmp.Compare(a.Subject, b.Subject),
			compareScope(a.Host, b.Host))
	})
	m.connect(required(), func(d *draft, k Key) { d.After = append(d.After, k) })
	m.connect(likely(), func(d *draft, k Key) {
		if !slices.Contains(d.After, k) {
			d.Causes = append(d.Causes, k)
		}
	})
}

func (m *model) connect(edges []edge, add func(*draft, Key)) {
	byID := map[string][]*draft{}
	for _, d := range m.drafts {
		byID[d.ID] = append(byID[d.ID], d)
	}
	for _, e := range edges {
		for _, d := range m.drafts {
			if e.then != "" && e.then != d.ID {
				continue
			}
			for _, f := range byID[e.first] {
				if f != d && e.related(m, d, f) {
					add(d, f.Key())
				}
			}
		}
	}
}

// reaches: d runs in, or dials, the container that first says runs.
func reaches(_ *model, d, first *draft) bool {
	id := first.Object.Scope()
	return d.ID != first.ID && (d.Host == id || slices.Contains(d.via, id))
}

func sameHost(_ *model, d, first *draft) bool { return d.Host != "" && d.Host == first.Host }

func sameObject(_ *model, d, first *draft) bool { return d.Object == first.Object }

func sameSubject(_ *model, d, first *draft) bool { return d.Subject == first.Subject }

func sameContainer(_ *model, d, first *draft) bool { return d.container() == first.container() }

// needed: d's fingerprint comes from first's object.
func needed(_ *model, d, first *draft) bool {
	return slices.ContainsFunc(d.Needs, func(n object.Need) bool { return n.From == first.Object })
}

func sameCA(_ *model, d, first *draft) bool { return d.ca != "" && d.ca == first.ca }

// homeCA: first asks d's CA from inside the CA's own container.
func homeCA(m *model, d, first *draft) bool {
	return sameCA(m, d, first) && first.Object.Kind() == spec.KindStepCA
}

// awayFromHome: d asks over the network what first asks at home.
func awayFromHome(m *model, d, first *draft) bool {
	return homeCA(m, d, first) && d.Object.Kind() != spec.KindStepCA
}

// atCA: first is a unit that d's CA is made of.
func atCA(m *model, d, first *draft) bool {
	return d.ca != "" && m.serves(first.Object, d.ca, spec.KindStepCA)
}

// behind: first is a unit, or another part, of what d's object is made of.
func behind(m *model, d, first *draft) bool {
	return sameContainer(m, d, first) && m.linked(d.Object, first.Object)
}

// ofCA: first is about the keys of the CA that d's unit runs.
func ofCA(m *model, d, first *draft) bool {
	return first.Object.Kind() == spec.KindStepCA && behind(m, d, first)
}

// client: both are on one host that is not the CA's own.
func client(m *model, d, first *draft) bool {
	return sameHost(m, d, first) && d.Object.Kind() != spec.KindStepCA
}

// onTheWay: first is in a container that d goes through, and belongs to a gateway or proxy.
func onTheWay(m *model, d, first *draft) bool {
	id := first.container()
	return slices.Contains(d.via, id) &&
		(m.serves(first.Object, id, spec.KindNginx) || m.serves(first.Object, id, spec.KindTraefik))
}

// sameBackend: first connects to the backend that d's route ends at.
func sameBackend(_ *model, d, first *draft) bool {
	p, err := decode[routeParams](d.Params)
	q, err2 := decode[backendParams](first.Params)
	return err == nil && err2 == nil && q.URL != "" && p.Backend == q.URL
}

// theirs: first tries a door of a container that d goes through.
func theirs(_ *model, d, first *draft) bool { return slices.Contains(d.via, first.Object.Scope()) }

func always(*model, *draft, *draft) bool { return true }

// sameBridge: first is the bridge that d's resolver is on.
func sameBridge(_ *model, d, first *draft) bool { return first.Object.Scope() == d.Object.Scope() }

// onBridge: d's container is on first's bridge.
func onBridge(m *model, d, first *draft) bool {
	return m.containers[d.container()].Interface.Bridge == first.Object.Scope()
}

// serves tells whether a is in the container and linked to an object of the kind there.
func (m *model) serves(a object.Address, id, kind string) bool {
	return a.Scope() == id && slices.ContainsFunc(m.objects, func(o object.Object) bool {
		return o.Address.Kind() == kind && o.Address.Scope() == id && m.linked(a, o.Address)
	})
}

// linked tells whether one of the objects depends on the other, over any number of steps within one container.
func (m *model) linked(a, b object.Address) bool {
	return m.depends(a, b, map[object.Address]bool{}) || m.depends(b, a, map[object.Address]bool{})
}

func (m *model) depends(a, b object.Address, been map[object.Address]bool) bool {
	if a == b {
		return true
	}
	if been[a] {
		return false
	}
	been[a] = true
	o, ok := m.byAddress[a]
	if !ok {
		return false
	}
	for _, next := range o.Dependencies() {
		if next.Scope() == b.Scope() && m.depends(next, b, been) {
			return true
		}
	}
	return false
}
