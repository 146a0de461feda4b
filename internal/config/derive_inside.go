package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// inside adds what lives in a container: names, trust, its role, its certificates and scripts, and the agent that keeps
// them.
func (d *derivation) inside(c *Container) {
	first := len(d.objects)
	base := []object.Address{object.NewAddress(spec.KindBinary, c.ID)}
	base = append(base, d.names(c, base)...)
	d.presets(c, base)
	if len(c.Packages) > 0 {
		base = append(base, d.add(in(c, spec.KindPackage, "pkg"), spec.Package{Names: c.Packages}, base...))
	}
	early := slices.Clone(base) // what needs no CA need not wait for it
	if d.house.ca != nil && c != d.house.ca {
		base = append(base, d.trust(c, base))
	}
	switch {
	case c == d.house.ca:
		d.authority(c, base)
	case c == d.house.gateway && d.needsCA(c):
		d.gateway(c, early, base)
	case c == d.house.proxy && d.needsCA(c):
		d.proxy(c, early, base)
	}
	done := slices.Clone(base)
	for _, x := range c.Certificates {
		if d.needsCA(c) {
			done = append(done, d.certificate(c, x, base))
		}
	}
	d.script(c, done)
	d.agent(c, d.objects[first:], base[0])
}

func (d *derivation) needsCA(c *Container) bool {
	if d.house.ca == nil {
		d.note(diag.Error, c.Source, fmt.Sprintf("container %s needs certificates, but no container is the CA", c.ID),
			`give one container the feature "step_ca"`)
	}
	return d.house.ca != nil
}

// names are the container's hosts file and resolver.
func (d *derivation) names(c *Container, after []object.Address) []object.Address {
	var hosts, resolv strings.Builder
	fmt.Fprintf(&hosts, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n%s %s\n",
		c.Network.Address.Addr(), c.Name)
	if own := c.Network.Address6; own.IsValid() {
		fmt.Fprintf(&hosts, "%s %s\n", own.Addr(), c.Name)
	}
	if s := d.searchDomains(); len(s) > 0 {
		fmt.Fprintf(&resolv, "search %s\n", strings.Join(s, " "))
	}
	for _, n := range d.nameservers(c) {
		fmt.Fprintf(&resolv, "nameserver %s\n", n)
	}
	if d.proxmox() { // which writes both at each start, unless these stand there
		for _, name := range []string{"/etc/.pve-ignore.hosts", "/etc/.pve-ignore.resolv.conf"} {
			after = append(slices.Clone(after), d.file(c, name, "phoenix keeps this file\n", 0o644, after))
		}
	}
	return []object.Address{
		d.file(c, "/etc/hosts", hosts.String(), 0o644, after),
		d.file(c, "/etc/resolv.conf", resolv.String(), 0o644, after),
	}
}

func (d *derivation) file(c *Container, name, content string, mode spec.Mode, after []object.Address) object.Address {
	return d.add(in(c, spec.KindFile, "file", strings.TrimPrefix(name, "/")),
		spec.File{Path: name, Content: content, Mode: mode}, after...)
}

// blob is a program that comes from the hypervisor.
func (d *derivation) blob(c *Container, name, target string, after []object.Address) object.Address {
	a, ok := d.machine.Artifacts[name]
	if !ok {
		d.note(diag.Warning, c.Source, fmt.Sprintf("container %s needs %s, which is not on this machine", c.ID, name),
			fmt.Sprintf("install the package phoenix-artifacts, build it with make artifacts, or name it in the "+
				"hypervisor file: \"artifacts\": {%q: {\"path\": …, \"sha256\": …}}", name))
	}
	return d.add(in(c, spec.KindFile, "file", strings.TrimPrefix(target, "/")),
		spec.File{Path: target, SHA256: a.SHA256, Mode: 0o755}, after...)
}

func (d *derivation) trust(c *Container, after []object.Address) object.Address {
	o := in(c, spec.KindTrust, "trust")
	o.Needs = []object.Need{d.fingerprint("/fingerprint")}
	return d.add(o, d.rootTrust(d.caURL()), append(after, d.caReady())...)
}

// fingerprint is the pinned root's.
func (d *derivation) fingerprint(into string) object.Need {
	return object.Need{From: object.NewAddress(spec.KindPin, d.house.ca.ID), Field: "fingerprint", Into: into}
}

// caReady is the object that is true once the CA answers.
func (d *derivation) caReady() object.Address {
	return object.NewAddress(spec.KindUnit, d.house.ca.ID, stepUnit)
}

// caHost is what clients dial: the CA's name where the zones know it, else its address.
func (d *derivation) caHost() string {
	name := strings.ToLower(d.cfg.Hypervisor.StepCA.DNSName)
	if _, known := d.house.names[name]; known && d.cfg.Hypervisor.DNS.Enabled {
		return name
	}
	return d.house.ca.Network.Address.Addr().String()
}

func (d *derivation) caURL() string {
	if a, err := netip.ParseAddr(d.caHost()); err == nil {
		return "https://" + hostPort(a, caPort)
	}
	return fmt.Sprintf("https://%s:%d", d.caHost(), caPort)
}

func (d *derivation) acme() spec.ACME {
	return spec.ACME{Directory: d.caURL() + "/acme/" + acmeName + "/directory", RootFile: RootFile}
}

// lifetime is the leaves'.
func (d *derivation) lifetime() spec.Duration {
	if l := d.cfg.Hypervisor.StepCA.LeafLifetime; l > 0 {
		return l
	}
	return defaultLeaf
}

// certificate adds a certificate that the container keeps for itself. Its challenges reach the container directly or by
// way of the gateway; without a web server that knows of them the agent answers itself.
func (d *derivation) certificate(c *Container, x *Certificate, after []object.Address) object.Address {
	owner, group, _ := strings.Cut(x.Owner, ":")
	s := spec.Certificate{
		CommonName: x.CommonName, DNSNames: withFirst(x.CommonName, x.DNSNames), KeyType: x.KeyType, ACME: d.acme(),
		AccountDir: path.Join(stateDir, "acme"), CertPath: x.CertPath, KeyPath: x.KeyPath, Owner: owner, Group: group,
		Mode:        0o600,
		RenewBefore: x.RenewBefore, Lifetime: d.lifetime(), Challenge: spec.HTTP01, Reload: x.Reload,
		Good: d.machine.Pins.Good(), Exposed: d.machine.Exposed, Leaked: d.machine.Leaked,
		OrderTimeout: d.cfg.Hypervisor.StepCA.OrderTimeout,
	}
	if x.Mode != nil {
		s.Mode = *x.Mode
	}
	after = append(slices.Clone(after), d.caReady())
	for _, n := range s.DNSNames {
		after = append(after, d.reach(c, n, x.Source))
	}
	o := in(c, spec.KindCertificate, "certificate", x.CommonName)
	o.Source = x.Source
	o.Needs = []object.Need{d.fingerprint("/fingerprint")}
	return d.add(o, s, after...)
}

// reach is the object that must be true for a challenge for name to reach the container: the gateway's where the name
// leads there, none where it leads to the container itself.
func (d *derivation) reach(c *Container, name string, src object.Source) object.Address {
	at, known := d.house.names[strings.ToLower(name)]
	switch {
	case !known:
		d.note(diag.Warning, src, fmt.Sprintf("no zone has %s: the CA cannot check who asks for it", name),
			"add a record for it to dns_server.authoritative_zones")
	case at == c.Network.Address.Addr():
	case d.house.gateway != nil && at == d.house.gateway.Network.Address.Addr():
		return object.NewAddress(spec.KindUnit, d.house.gateway.ID, nginxUnit)
	default:
		d.note(diag.Warning, src, fmt.Sprintf("%s leads to %s: challenges for it reach neither container %s nor a "+
			"gateway", name, at, c.ID),
			"let the record lead to the container or to the gateway")
	}
	return ""
}

// withFirst is the names with first in front, each once, in lower case.
func withFirst(first string, names []string) []string {
	var out []string
	for _, n := range append([]string{first}, names...) {
		if n = strings.ToLower(n); n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// script runs the user's own application script once its certificates are there.
func (d *derivation) script(c *Container, after []object.Address) {
	for _, name := range c.FeatureScripts() {
		a, found := d.machine.Scripts[name]
		if !found {
			feature := strings.TrimSuffix(strings.TrimPrefix(name, featureScript), ".sh")
			severity := diag.Warning // as with an application script, its container is not touched until it is here
			if Nearest(feature, Features) != "" {
				severity = diag.Error // a role would silently be gone
			}
			d.note(severity, c.source("features"), fmt.Sprintf("container %s has the feature %q, which phoenix does "+
				"not know, and its script %s was not found", c.ID, feature, name),
				unknownFeature(feature))
			continue
		}
		d.tellFlaw(a, c.source("features"))
		after = append(after, d.add(in(c, spec.KindScript, "script", name), spec.Script{Name: name, SHA256: a.SHA256},
			after...))
	}
	name := c.OwnScript()
	if name == "" {
		return
	}
	a, found := d.machine.Scripts[name]
	if !found {
		d.note(diag.Warning, c.Source, fmt.Sprintf("application script %s of container %s was not found", name, c.ID),
			"put it beside the configuration")
	}
	d.tellFlaw(a, c.source("application_script"))
	d.add(in(c, spec.KindScript, "script", path.Base(name)), spec.Script{Name: path.Base(name), SHA256: a.SHA256},
		after...)
}

// tellFlaw refuses a script that can never run before anything is stopped for it.
func (d *derivation) tellFlaw(a Artifact, src object.Source) {
	if a.Flaw != "" {
		d.note(diag.Error, src, "script "+a.Path+" cannot run: "+a.Flaw, "mend the script")
	}
}

// unknownFeature is what to do about a feature that nobody knows.
func unknownFeature(feature string) string {
	if near := Nearest(feature, Features); near != "" {
		return "did you mean " + near + "? A feature of your own has a script beside the configuration"
	}
	return "phoenix knows " + strings.Join(Features, ", ") + "; put the script of your own beside the configuration"
}

// agent's own need; what they need of one another the daemon fills in itself.
func (d *derivation) agent(c *Container, objects []object.Object, binary object.Address) {
	o := in(c, spec.KindAgent, "agent")
	s := spec.Agent{Binary: AgentBinary, SHA256: d.machine.Binary.SHA256}
	for _, x := range objects {
		if x.Host != c.ID {
			continue
		}
		x = d.kept(x)
		x.Source = object.Source{} // lines move when others are edited, and mean nothing in here
		for _, n := range x.Needs {
			if d.hostOf(n.From) != c.ID {
				o.Needs = append(o.Needs,
					object.Need{From: n.From, Field: n.Field,
						Into: fmt.Sprintf("/objects/%d/spec%s", len(s.Objects), n.Into)})
			}
		}
		x.Needs = slices.DeleteFunc(slices.Clone(x.Needs), func(n object.Need) bool { return d.hostOf(n.From) != c.ID })
		x.After = slices.DeleteFunc(slices.Clone(x.After), func(a object.Address) bool { return d.hostOf(a) != c.ID })
		s.Objects = append(s.Objects, x)
	}
	address := d.add(o, s, binary)
	unit := in(c, spec.KindUnit, "unit", agentUnit)
	unit.Needs = []object.Need{{From: address, Field: "digest", Into: "/also"}}
	d.add(unit, spec.Unit{Name: agentUnit, Content: agentUnitText,
		Inputs: digest(agentUnitText, d.machine.Binary.SHA256)}, address)
}

// hostOf is where an object lives; only pins and the like live on the hypervisor and are looked for here.
func (d *derivation) hostOf(a object.Address) string {
	switch a.Kind() {
	case spec.KindPin, spec.KindPort, spec.KindBinary, spec.KindRunning, spec.KindContainer, spec.KindVolume,
		spec.KindTemplate, spec.KindNetwork, spec.KindDNS,
		spec.KindFirewall, spec.KindNode, spec.KindHostFirewall, spec.KindAccess:
		return ""
	}
	return a.Scope()
}

// digest is one SHA-256 over all that a process reads at its start.
func digest(parts ...any) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, p := range parts {
		_ = enc.Encode(p) // specs are plain data, a hash takes all
	}
	return hex.EncodeToString(h.Sum(nil))
}
