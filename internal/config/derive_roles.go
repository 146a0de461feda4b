package config

import (
	"cmp"
	_ "embed" // unit files
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Unit files; what they read and may do is in the files themselves.
var (
	//go:embed units/step-ca.service
	stepUnitText string
	//go:embed units/traefik.service
	traefikUnitText string
	//go:embed units/traefik-cover.service
	coverUnitText string
	//go:embed units/phoenix-agent.service
	agentUnitText string
	//go:embed units/nginx.conf
	nginxDropIn string
)

const (
	stepUnit    = "step-ca.service"
	nginxUnit   = "nginx.service"
	traefikUnit = "traefik.service"
	coverUnit   = "traefik-cover.service"

	stepProgram    = "/usr/local/bin/step-ca"
	traefikProgram = "/usr/local/bin/traefik"

	caPort   = 9000
	acmeName = "acme"  // of the provisioner: a part of the directory's URL
	database = "bbolt" // copy-on-write: survives a full disk and a power cut (docs/measurements/step-ca-database.md)
	webroot  = stateDir + "/webroot"
	keyType  = "ec-p256"

	defaultLeaf         = spec.Duration(24 * time.Hour)
	defaultIntermediate = spec.Duration(5 * 365 * 24 * time.Hour)
	defaultRoot         = spec.Duration(10 * 365 * 24 * time.Hour)
)

// authority adds step-ca and the pin of its root.
func (d *derivation) authority(c *Container, base []object.Address) {
	user := d.add(in(c, spec.KindUser, "user", stepUser), spec.User{Name: stepUser, UID: stepUID, Home: caDir}, base...)
	program := d.blob(c, "step-ca", stepProgram, base)
	ca := in(c, spec.KindStepCA, "stepca")
	ca.Source = d.cfg.Hypervisor.StepCA.Source
	d.add(ca, d.stepCA(c), append(base, user)...)
	unit := in(c, spec.KindUnit, "unit", stepUnit)
	unit.Needs = []object.Need{{From: ca.Address, Field: "inputs", Into: "/also"}}
	d.add(unit, spec.Unit{
		Name: stepUnit, Content: stepUnitText, Inputs: digest(stepUnitText, d.machine.Artifacts["step-ca"].SHA256),
		Ready: fmt.Sprintf("127.0.0.1:%d", caPort),
	}, user, program)
	pin := on(c, spec.KindPin, "trust")
	pin.Needs = []object.Need{{From: ca.Address, Field: "root_fingerprint", Into: "/fingerprint"}}
	s := spec.Pin{Path: d.pinPath(c), NewRoot: d.machine.NewRoot, Unknown: d.machine.UnknownRoot,
		Proxmox: d.machine.Proxmox}
	if d.proxmox() {
		s.Copy = path.Join(d.machine.Proxmox.Dir, "phoenix", "pins", c.ID)
	}
	d.add(pin, s)
}

func (d *derivation) pinPath(c *Container) string {
	return path.Join(d.machine.Root, "pins", c.ID)
}

func (d *derivation) stepCA(c *Container) spec.StepCA {
	s := d.cfg.Hypervisor.StepCA
	out := spec.StepCA{
		Dir: caDir, User: stepUser, RootName: cmp.Or(s.RootName, "phoenix Root CA"),
		IntermediateName: cmp.Or(s.IntermediateName, "phoenix Intermediate CA"),
		Address:          fmt.Sprintf(":%d", caPort), Provisioner: acmeName, LeafLifetime: d.lifetime(),
		MaxLeafLifetime:  max(d.lifetime(), defaultLeaf),
		RootLifetime:     cmp.Or(s.RootLifetime, defaultRoot),
		IntermediateLife: cmp.Or(s.IntermediateLifetime, defaultIntermediate),
		Database:         cmp.Or(s.Database, database), Credentials: "/run/credentials/" + stepUnit,
		Data:   "/var/lib/step-ca",
		Pinned: d.machine.Pins.Root, FirstRoot: d.machine.FirstRoot, NewRoot: d.machine.NewRoot,
		Next: d.machine.Pins.Next, Old: d.machine.Pins.Old, Gone: d.machine.Pins.Gone,
		MakeNext: d.machine.MakeNext, Exposed: d.machine.Exposed, Import: d.machine.Import,
	}
	address := c.Network.Address.Addr().String()
	out.DNSNames = withFirst(s.DNSName,
		append(append(slices.Clone(s.DNSNames), d.house.namesAt(c)...), address, "127.0.0.1"))
	out.AllowedNames = d.allowed()
	for _, n := range out.DNSNames {
		if isAddress(n) {
			out.Addresses = append(out.Addresses, n)
		}
	}
	out.RootOpen = slices.Contains(s.RootPermits, allowAll)
	if subnet := d.cfg.Hypervisor.Network.Interface.Address; !out.RootOpen {
		if subnet.IsValid() {
			out.RootPermits = append(out.RootPermits, subnet.Masked().String())
		}
		out.RootPermits = append(out.RootPermits, s.RootPermits...)
	}
	out.Domains = d.domains(append(slices.Clone(out.AllowedNames), out.DNSNames...))
	return out
}

// allowed are exactly the names that something in the configuration gets a certificate for, sorted.
func (d *derivation) allowed() []string {
	out := slices.Concat(d.house.namesAt(d.house.gateway), d.house.routed(),
		withFirst("", d.cfg.Hypervisor.StepCA.AllowedNames),
		withFirst(d.cfg.Hypervisor.StepCA.DNSName, nil))
	for _, c := range d.cfg.Containers {
		for _, x := range c.Certificates {
			out = append(out, withFirst(x.CommonName, x.DNSNames)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// domains are what the intermediate may sign below: the zones, and each name that is in none of them.
func (d *derivation) domains(names []string) []string {
	var out []string
	for _, z := range d.house.zones {
		out = append(out, z.Name)
	}
	for _, n := range names {
		inZone := slices.ContainsFunc(out, func(z string) bool { return n == z || strings.HasSuffix(n, "."+z) })
		if !inZone && !isAddress(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gateway adds Nginx: first with what it needs to answer challenges, then, once there is a certificate, with TLS.
func (d *derivation) gateway(c *Container, early, base []object.Address) {
	installed := d.add(in(c, spec.KindPackage, "pkg", "nginx"), spec.Package{Names: []string{"nginx-light"}}, early...)
	cert, key := gatewayDir+"/gateway.crt", gatewayDir+"/gateway.key"
	s := spec.Nginx{Part: spec.NginxBase, Dir: "/etc/nginx", Webroot: webroot, Certificate: cert, Key: key,
		RootFile: RootFile, Sites: d.sites(c)}
	plain := d.add(in(c, spec.KindNginx, "nginx", s.Part), s, installed)
	unit := d.add(in(c, spec.KindUnit, "unit", nginxUnit),
		spec.Unit{Name: nginxUnit, DropIn: nginxDropIn, Lasting: true, Ready: "127.0.0.1:80"}, plain)
	names := d.house.namesAt(c)
	if len(names) == 0 {
		d.note(diag.Warning, c.Source, "no name of the zones leads to the gateway: it has nothing to serve",
			"add records with its address to dns_server.authoritative_zones")
		return
	}
	if len(c.Certificates) == 0 {
		// Named after what the container is: which of its names comes first changes with the names.
		o := in(c, spec.KindCertificate, "certificate", "gateway")
		o.Needs = []object.Need{d.fingerprint("/fingerprint")}
		unit = d.add(o, spec.Certificate{
			CommonName: commonName(names), DNSNames: withFirst(commonName(names), names), KeyType: keyType,
			ACME: d.acme(), AccountDir: path.Join(stateDir, "acme"),
			CertPath: cert, KeyPath: key, Mode: 0o600, Lifetime: d.lifetime(), Challenge: spec.HTTP01, Webroot: webroot,
			Good: d.machine.Pins.Good(), Exposed: d.machine.Exposed, Leaked: d.machine.Leaked,
			OrderTimeout: d.cfg.Hypervisor.StepCA.OrderTimeout,
			Reload:       []string{"systemctl", "try-reload-or-restart", nginxUnit}, Served: "127.0.0.1:443",
		}, append(base, unit, d.caReady())...)
	}
	s.Part = spec.NginxTLS
	served := d.add(in(c, spec.KindNginx, "nginx", s.Part), s, append(base, unit)...)
	s.Part, s.Sites = spec.NginxOwn, nil
	d.add(in(c, spec.KindNginx, "nginx", s.Part), s, served)
}

// commonName is the shortest name, for a common name has room for 64 bytes (RFC 5280, appendix A.1: ub-common-name).
func commonName(names []string) string {
	return slices.MinFunc(names, func(a, b string) int { return len(a) - len(b) })
}

// sites are the names that lead to the gateway: where their requests go, and where challenges go that the gateway
// itself has no answer to, since Traefik or a container asked for a certificate with that name.
func (d *derivation) sites(c *Container) []spec.NginxSite {
	routed, wanted := d.house.routed(), d.wanted(c)
	var out []spec.NginxSite
	for _, name := range d.house.namesAt(c) {
		site := spec.NginxSite{Name: name}
		if _, ok := slices.BinarySearch(routed, name); ok {
			at := d.house.proxy.Network.Address.Addr()
			site.Upstream, site.Challenge, site.Cover = hostPort(at, 443), hostPort(at, 80),
				hostPort(at, spec.CoverPort)
		}
		for _, x := range wanted[name] {
			if site.Challenge != "" {
				d.note(diag.Error, x.source, name+" leads to the gateway, and two containers behind it want "+
					"certificates for it: challenges can go to one only",
					"give the container's own certificate a name of its own, with a record that leads to the container")
				continue
			}
			site.Challenge = hostPort(x.at, 80)
		}
		out = append(out, site)
	}
	return out
}

// asking is a container's certificate.
type asking struct {
	at     netip.Addr
	source object.Source
}

// wanted are the certificates of all containers but one, by name, in the order of the containers.
func (d *derivation) wanted(but *Container) map[string][]asking {
	out := map[string][]asking{}
	for _, c := range d.cfg.Containers {
		for _, x := range c.Certificates {
			for _, name := range withFirst(x.CommonName, x.DNSNames) {
				if c != but {
					out[name] = append(out[name], asking{at: c.Network.Address.Addr(), source: x.Source})
				}
			}
		}
	}
	return out
}

// proxy adds Traefik.
func (d *derivation) proxy(c *Container, early, base []object.Address) {
	user := d.add(in(c, spec.KindUser, "user", traefikUser),
		spec.User{Name: traefikUser, UID: traefikUID, Home: proxyDir}, early...)
	cover := d.file(c, "/etc/systemd/system/"+coverUnit, coverUnitText, 0o644, early)
	program := d.blob(c, "traefik", traefikProgram, early)
	s := spec.Traefik{
		Part: spec.TraefikConfig, Dir: "/etc/traefik", Storage: proxyDir + "/acme.json", User: traefikUser,
		ACME: d.acme(), Lifetime: d.lifetime(), Challenge: spec.HTTP01,
		Routes: d.traefikRoutes(), OwnName: d.house.ownName(), Good: d.machine.Pins.Good(), Exposed: d.machine.Exposed,
		Cover: coverUnit, Gateways: d.gateways(),
	}
	files := in(c, spec.KindTraefik, "traefik", s.Part)
	files.Needs = []object.Need{d.fingerprint("/fingerprint")}
	d.add(files, s, append(base, user)...)
	unit := in(c, spec.KindUnit, "unit", traefikUnit)
	unit.Needs = []object.Need{{From: files.Address, Field: "inputs", Into: "/also"}}
	d.add(unit, spec.Unit{
		Name: traefikUnit, Content: traefikUnitText,
		Inputs: digest(traefikUnitText, d.machine.Artifacts["traefik"].SHA256), Ready: "127.0.0.1:443",
		// Traefik does not soon try again what failed at its start
	}, append(d.reaches(c), files.Address, program, d.caReady())...)
	if len(d.house.routed()) == 0 {
		return
	}
	s.Part, s.OrderTimeout = spec.TraefikCertificates, d.cfg.Hypervisor.StepCA.OrderTimeout
	served := in(c, spec.KindTraefik, "traefik", s.Part)
	served.Needs = []object.Need{d.fingerprint("/fingerprint")}
	d.add(served, s, unit.Address, cover)
}

// gateways are the addresses from which requests come to Traefik that were taken in before.
func (d *derivation) gateways() []string {
	if d.house.gateway == nil {
		return nil
	}
	return []string{d.house.gateway.Network.Address.Addr().String()}
}

// reaches is what must be true for challenges for Traefik's names to reach it.
func (d *derivation) reaches(c *Container) []object.Address {
	var out []object.Address
	for _, n := range d.house.routed() {
		out = append(out, d.reach(c, n, c.Source))
	}
	return out
}

func (d *derivation) traefikRoutes() []spec.TraefikRoute {
	var out []spec.TraefikRoute
	for _, r := range d.house.routes {
		t := r.container.TraefikService
		route := spec.TraefikRoute{
			Name: strings.ToLower(t.Name), Hosts: r.hosts,
			URL:   cmp.Or(t.Scheme, "http") + "://" + hostPort(r.container.Network.Address.Addr(), t.Port),
			Paths: t.Paths, UsersFile: t.UsersFile, Headers: t.Headers, RootFile: t.CAFile,
			RequestHeaders: t.RequestHeaders, Redirects: t.redirects(),
		}
		for _, from := range t.AllowFrom {
			if n, ok := network(from); ok {
				route.AllowFrom = append(route.AllowFrom, n.String())
			}
		}
		if t.Scheme == "https" {
			route.ServerName = t.ServerName
			if route.ServerName == "" && len(r.container.Certificates) > 0 {
				route.ServerName = r.container.Certificates[0].CommonName
			}
		}
		out = append(out, route)
	}
	return out
}

// trustHost puts the root into the hypervisor's own store, where that was asked for.
func (d *derivation) trustHost() {
	c := d.house.ca
	if c == nil || !d.machine.TrustHost {
		return
	}
	o := on(c, spec.KindHostTrust, "trust")
	o.Needs = []object.Need{d.fingerprint("/fingerprint")}
	d.add(o, d.rootTrust("https://"+hostPort(c.Network.Address.Addr(), caPort)), d.caReady())
}

// rootTrust is the root in a store, and while another takes its place both.
func (d *derivation) rootTrust(server string) spec.Trust {
	return spec.Trust{Name: trustName, Server: server, Both: d.machine.Pins.Both(), Gone: d.machine.Pins.Gone}
}

// kept is an object as the daemon keeps it: what was consented to once, and what the hypervisor alone sees to, is not
// in it.
func (d *derivation) kept(o object.Object) object.Object {
	switch o.Address.Kind() {
	case spec.KindTrust:
		s := d.rootTrust(d.caURL())
		s.Gone = ""
		return withSpec(o, s)
	case spec.KindStepCA:
		s := d.stepCA(d.house.ca)
		s.Pinned, s.FirstRoot, s.NewRoot, s.MakeNext, s.Gone, s.Import = "", false, false, false, "", ""
		o = withSpec(o, s)
		o.Needs = append(slices.Clone(o.Needs), d.fingerprint("/pinned"))
	}
	return o
}

func withSpec(o object.Object, s any) object.Object {
	if raw, err := json.Marshal(s); err == nil {
		o.Spec = raw
	}
	return o
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func hostPort(a netip.Addr, port int) string {
	return netip.AddrPortFrom(a, uint16(port)).String()
}
