package health

import (
	"cmp"
	"net"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (m *model) pin(o object.Object, s spec.Pin) { m.add(kindPin, o, "", s) }

// caFrom is a CA as a host sees it: its own container through its own address, all others through the container's.
func (m *model) caFrom(ca, on string) endpoint {
	s := m.authority[ca]
	e := endpoint{Dial: local(s.Address), Name: first(s.DNSNames)}
	if on == ca {
		return e
	}
	if _, port, err := net.SplitHostPort(s.Address); err == nil {
		e.Dial = net.JoinHostPort(m.address(ca), port)
	}
	return e
}

// both are the roots that everyone trusts while one takes another's place.
func (m *model) both(ca string) []string {
	s := m.authority[ca]
	return spec.Pins{Root: s.Pinned, Next: s.Next, Old: s.Old}.Both()
}

func (m *model) stepCA(o object.Object, s spec.StepCA) {
	ca, needs := o.Address.Scope(), pinned(o.Address.Scope())
	e := m.caFrom(ca, o.Host)
	p := caParams{CA: e, Anchor: anchor{CA: e, Also: m.both(ca)}}
	m.add(kindRootFiles, o, o.Host, rootFiles{Dir: s.Dir}).ca = ca
	m.add(kindRoot, o, o.Host, p).asks(ca, needs)
	m.add(kindRootPermits, o, o.Host,
		rootPermits{Dir: s.Dir,
			Names: slices.Compact(slices.Sorted(slices.Values(slices.Concat(s.AllowedNames, s.DNSNames))))}).ca = ca
	m.add(kindAuthority, o, o.Host, p).asks(ca, needs)

	directory, only, life := p, p, p
	directory.Path = "/acme/" + s.Provisioner + "/directory"
	m.add(kindDirectory, o, o.Host, directory).asks(ca, needs)
	only.Provisioner = s.Provisioner
	m.add(kindProvisioners, o, o.Host, only).asks(ca, needs)
	life.LeafLife = s.MaxLeafLifetime
	m.add(kindAuthorityLife, o, o.Host, life).asks(ca, needs)
	if s.Database == issued.Readable {
		m.add(kindUnwanted, o, o.Host, issuedParams{})
		m.add(kindForeign, o, o.Host, issuedParams{})
	}
	m.add(kindKeyDirectory, o, o.Host, keyDirectory{Path: s.Dir, User: s.User}).of(s.Dir)

	if outside := m.caFrom(ca, ""); outside.Dial != "" && o.Host != "" {
		m.add(kindClock, o, "", caParams{CA: outside}).asks(ca, nil)
	}
}

// trust is a client of the CA: what it sees of it, and whether its programs trust it.
func (m *model) trust(o object.Object, s spec.Trust) {
	e, _, err := endpointOf(s.Server)
	if err != nil {
		m.add(kindUnreadable, o, "", unreadable{err.Error()})
		return
	}
	ca, needs := m.anchored(o, s.Fingerprint)
	p := caParams{CA: e, Anchor: anchor{Fingerprint: s.Fingerprint, CA: e, Also: s.Both}}
	m.add(kindTrust, o, o.Host, p).asks(ca, needs)
	if o.Host == ca {
		return // the CA itself is asked from inside already
	}
	m.add(kindAuthority, o, o.Host, p).asks(ca, needs)
	m.add(kindClock, o, o.Host, caParams{CA: e}).asks(ca, nil)
}

// hostTrust dials the container's address, since the hypervisor need not use the containers' resolver.
func (m *model) hostTrust(o object.Object, s spec.Trust) {
	e, _, err := endpointOf(s.Server)
	if err != nil {
		m.add(kindUnreadable, o, "", unreadable{err.Error()})
		return
	}
	ca, needs := m.anchored(o, s.Fingerprint)
	if outside := m.caFrom(ca, ""); outside.Dial != "" {
		e.Dial = outside.Dial
	}
	m.add(kindTrust, o, "", caParams{CA: e, Anchor: anchor{Fingerprint: s.Fingerprint, CA: e}}).asks(ca, needs)
}

func (m *model) certificate(o object.Object, s spec.Certificate) {
	ca, needs := m.anchored(o, s.Fingerprint)
	p := certParams{
		CommonName: s.CommonName, DNSNames: s.DNSNames, CertPath: s.CertPath, KeyPath: s.KeyPath,
		RenewBefore: s.RenewBefore, Served: cmp.Or(s.Served, m.servedBy(o.Host, s)),
		Anchor: anchor{Fingerprint: s.Fingerprint, File: s.ACME.RootFile, Also: s.Good},
	}
	m.add(kindCertFiles, o, o.Host, p)
	m.add(kindCertChain, o, o.Host, p).Needs = needs
	m.add(kindCertNames, o, o.Host, p)
	m.add(kindCertLifetime, o, o.Host, p)
	if p.Served != "" {
		m.add(kindCertServed, o, o.Host, p)
	}
	if units := s.ReloadUnits(); len(units) > 0 {
		m.add(kindCertReload, o, o.Host, reloadParams{Units: units})
	}
	m.add(kindKeyFile, o, o.Host, keyFile{Path: s.KeyPath, Mode: s.Mode, Owner: s.Owner, Group: s.Group}).of(s.KeyPath)
	if s.AccountDir != "" {
		m.add(kindKeyDirectory, o, o.Host,
			keyDirectory{Path: s.AccountDir, User: "root", Optional: true}).of(s.AccountDir)
	}
	m.directory(o, s.ACME, anchor{Fingerprint: s.Fingerprint, File: s.ACME.RootFile, Also: m.both(ca)}, ca, needs)
}

// servedBy is where a certificate of a container is served, as far as others rely on it: by the gateway in there, or by
// the application that a proxy's route leads to. Empty: nowhere that is known.
func (m *model) servedBy(id string, c spec.Certificate) string {
	for _, o := range m.objects {
		switch o.Address.Kind() {
		case spec.KindNginx:
			n, err := decode[spec.Nginx](o.Spec)
			if err == nil && o.Host == id && n.Part == spec.NginxTLS && n.Certificate == c.CertPath {
				return net.JoinHostPort("127.0.0.1", httpsPort)
			}
		case spec.KindTraefik:
			t, err := decode[spec.Traefik](o.Spec)
			if target := m.backendWith(t, id, c.DNSNames); err == nil && target != "" {
				return target
			}
		}
	}
	return ""
}

// backendWith is the address in the container at which a proxy expects a certificate for one of the names; empty: none.
func (m *model) backendWith(t spec.Traefik, id string, names []string) string {
	for _, r := range t.Routes {
		u, target, err := dialTarget(r.URL)
		if err == nil && u.Scheme == "https" && m.containerAt(u.Hostname()) == id &&
			slices.Contains(names, r.ServerName) {
			return target
		}
	}
	return ""
}

// directory checks that a client's way to the ACME directory is open, once per client and directory.
func (m *model) directory(o object.Object, s spec.ACME, a anchor, ca string, needs []object.Need) {
	e, path, err := endpointOf(s.Directory)
	if err != nil {
		m.add(kindUnreadable, o, "", unreadable{err.Error()})
		return
	}
	for _, d := range m.drafts {
		if d.Kind == kindDirectory && d.Host == o.Host && d.Subject == s.Directory {
			return
		}
	}
	m.add(kindDirectory, o, o.Host, caParams{CA: e, Anchor: a, Path: path}).of(s.Directory).asks(ca, needs)
}

const httpsPort = "443" // what names in browsers stand for

// nginx checks every name that is forwarded, from the hypervisor. The gateway's own certificate is a certificate
// object.
func (m *model) nginx(o object.Object, _ spec.Nginx) {
	ip := m.address(o.Address.Scope())
	ca := first(sortedKeys(m.authority))
	if ip == "" || ca == "" {
		return // not reachable from the hypervisor, or nothing to verify against
	}
	for _, s := range m.sites {
		if s.gateway.Address == o.Address && m.isRunning(s.proxy) && m.ends(m.backendOf(s)) {
			root := anchor{CA: m.caFrom(ca, ""), Also: m.both(ca)}
			m.route(s, "", net.JoinHostPort(ip, httpsPort), root).asks(ca, pinned(ca))
		}
	}
}

func (m *model) route(s gatewaySite, on, dial string, root anchor) *draft {
	p := routeParams{Gateway: endpoint{Dial: dial, Name: s.Name}, Anchor: root, Backend: m.backendOf(s)}
	p.Path = m.pathOf(s)
	p.Apart = on != "" && m.apart(p.Backend)
	d := m.add(kindRoute, s.gateway, on, p).of(s.Name)
	d.via = append(d.via, s.gateway.Address.Scope())
	if s.proxy != "" {
		d.via = append(d.via, s.proxy)
	}
	return d
}

// backendOf is where the proxy sends a name; empty: not known.
func (m *model) backendOf(s gatewaySite) string {
	for _, o := range m.objects {
		if o.Address.Kind() != spec.KindTraefik || s.proxy != "" && o.Address.Scope() != s.proxy {
			continue
		}
		t, err := decode[spec.Traefik](o.Spec)
		for _, r := range t.Routes {
			if err == nil && slices.Contains(r.Hosts, s.Name) {
				return r.URL
			}
		}
	}
	return ""
}

// rootOf is the file that an https backend is verified by; empty: it is none.
func rootOf(s spec.Traefik, r spec.TraefikRoute) string {
	if !strings.HasPrefix(r.URL, "https://") {
		return ""
	}
	return cmp.Or(r.RootFile, s.ACME.RootFile)
}

// pathOf is a path that a name has a route for; empty: all of them.
func (m *model) pathOf(s gatewaySite) string {
	for _, o := range m.objects {
		if o.Address.Kind() != spec.KindTraefik || s.proxy != "" && o.Address.Scope() != s.proxy {
			continue
		}
		t, err := decode[spec.Traefik](o.Spec)
		for _, r := range t.Routes {
			if err == nil && slices.Contains(r.Hosts, s.Name) && len(r.Paths) > 0 {
				return r.Paths[0]
			}
		}
	}
	return ""
}

// ends tells whether a route's end can be judged: it has no backend of its own (the proxy's own name), or one in a
// container that should run. Routes to containers that nobody asked to run lead nowhere, and rightly so.
func (m *model) ends(backend string) bool {
	if backend == "" {
		return true
	}
	_, target, err := dialTarget(backend)
	return err == nil && m.isRunning(m.containerAt(hostOf(target)))
}

// clientRoutes asks for every route once more as a client does: by name, from a container that is neither CA nor
// gateway nor proxy, with the root from its own store. The first such container stands for all.
func (m *model) clientRoutes() {
	client, ok := m.client()
	if !ok {
		return
	}
	t, err := decode[spec.Trust](client.Spec)
	if err != nil {
		return
	}
	_, needs := m.anchored(client, t.Fingerprint)
	for _, s := range m.sites {
		if !m.isRunning(s.proxy) || !m.ends(m.backendOf(s)) {
			continue
		}
		root := anchor{Fingerprint: t.Fingerprint, File: systemBundle, Also: t.Both}
		m.route(s, client.Host, net.JoinHostPort(s.Name, httpsPort), root).Needs = needs
	}
}

func (m *model) client() (object.Object, bool) {
	busy := map[string]bool{}
	for _, o := range m.objects {
		if slices.Contains([]string{spec.KindStepCA, spec.KindNginx, spec.KindTraefik}, o.Address.Kind()) {
			busy[o.Address.Scope()] = true
		}
	}
	for _, o := range m.objects {
		if o.Address.Kind() == spec.KindTrust && o.Host != "" && !busy[o.Host] {
			return o, true
		}
	}
	return object.Object{}, false
}

// traefik checks what the proxy serves; its files alone, without a name to serve, have no certificate.
func (m *model) traefik(o object.Object, s spec.Traefik) {
	if s.Part == spec.TraefikConfig {
		return
	}
	ca, needs := m.anchored(o, s.Fingerprint)
	root := anchor{Fingerprint: s.Fingerprint, File: s.ACME.RootFile, Also: s.Good}
	m.add(kindKeyFile, o, o.Host, keyFile{Path: s.Storage, Mode: 0o600, Owner: s.User}).of(s.Storage)
	m.directory(o, s.ACME, anchor{Fingerprint: s.Fingerprint, File: s.ACME.RootFile, Also: m.both(ca)}, ca, needs)
	dial := net.JoinHostPort("127.0.0.1", m.proxyPort(o.Address.Scope()))
	for _, name := range proxyNames(s) {
		p := servedParams{Server: endpoint{Dial: dial, Name: name}, Anchor: root}
		d := m.add(kindCertRoute, o, o.Host, p).of(name)
		d.Needs = needs
	}
	for _, r := range s.Routes {
		if _, target, err := dialTarget(r.URL); err == nil && m.ends(r.URL) {
			id := m.containerAt(hostOf(target))
			d := m.add(kindBackend, o, o.Host,
				backendParams{URL: r.URL, Container: id, Name: m.containers[id].Name, ServerName: r.ServerName,
					RootFile: rootOf(s, r)}).of(r.Name)
			d.via = append(d.via, id)
			if id != "" { // it is the application's failure, and not that of the proxy which asks
				d.Object = object.NewAddress(spec.KindRunning, id)
			}
		}
	}
}

// proxyNames are all names that Traefik has a certificate for.
func proxyNames(s spec.Traefik) []string {
	var names []string
	for _, r := range s.Routes {
		names = append(names, r.Hosts...)
	}
	if s.OwnName != "" {
		names = append(names, s.OwnName)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// proxyPort is the port at which gateways reach the proxy in a container.
func (m *model) proxyPort(id string) string {
	for _, s := range m.sites {
		if _, port, err := net.SplitHostPort(s.Upstream); err == nil && s.proxy == id {
			return port
		}
	}
	return httpsPort
}
