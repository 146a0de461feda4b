package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// applies tells whether something runs in the container that phoenix knows nothing of.
func (c *Container) applies() bool {
	return c.OwnScript() != "" || len(c.FeatureScripts()) > 0 || len(c.Packages) > 0
}

// listens adds where something is to listen in a container: what phoenix keeps there, what the firewall lets in, and
// what the file names. Where an application of the users' has no firewall, and the file names no port, nobody can
// tell.
func (d *derivation) listens(r spec.Running, c *Container) spec.Running {
	r.AnyPort = c.applies() && !c.Firewall.Enabled && len(c.Listens) == 0
	if r.AnyPort {
		return r
	}
	add := func(protocol string, ports ...int) {
		for _, p := range ports {
			r.Listens = append(r.Listens, protocol+"/"+strconv.Itoa(p))
		}
	}
	own := c.Network.Address.Addr()
	for _, f := range d.allFlows() {
		if f.to == own {
			add(f.proto, f.port)
		}
	}
	if c == d.house.ca {
		add("tcp", caPort)
	}
	if c == d.house.gateway || c == d.house.proxy {
		add("tcp", 80, 443)
	}
	if c == d.house.proxy {
		add("tcp", spec.CoverPort)
	}
	if len(c.Certificates) > 0 {
		add("tcp", 80)
	}
	for _, p := range d.cfg.publishes(c) {
		add(p.proto, p.port)
	}
	if c.TraefikService != nil {
		add("tcp", c.TraefikService.Port)
	}
	for _, rule := range c.Firewall.Rules {
		if x, err := rule.rule(); err == nil && !rule.Enable.Off {
			r.Listens = append(r.Listens, listensBy(x)...)
		}
	}
	r.Listens = append(r.Listens, c.Listens...)
	slices.Sort(r.Listens)
	r.Listens = slices.Compact(r.Listens)
	return r
}

// listensBy are the ports that a rule of the users' lets in.
func listensBy(r spec.Rule) (out []string) {
	if r.Direction != spec.In || r.Action != spec.Accept || r.Proto != "tcp" && r.Proto != "udp" {
		return nil
	}
	if r.Ports == "" {
		return []string{r.Proto + "/1-65535"}
	}
	for part := range strings.SplitSeq(r.Ports, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if isRange {
			first = fmt.Sprintf("%s-%s", first, last)
		}
		out = append(out, r.Proto+"/"+first)
	}
	return out
}

// allFlows are the flows, worked out once.
func (d *derivation) allFlows() []flow {
	if d.to == nil {
		d.to, d.from = map[netip.Addr][]flow{}, map[netip.Addr][]flow{}
		d.every = d.flows()
		for _, f := range d.every {
			d.to[f.to], d.from[f.from] = append(d.to[f.to], f), append(d.from[f.from], f)
		}
	}
	return d.every
}

// presets leaves disabled, at a first boot too, what the template brings and nothing here asks for. Where a role of
// phoenix's is all that a container is for, what was enabled before is stopped.
func (d *derivation) presets(c *Container, after []object.Address) {
	application, role := c.applies(), c == d.house.ca || c == d.house.gateway || c == d.house.proxy
	units := slices.DeleteFunc(spec.TemplateUnits(), func(u string) bool {
		return u == spec.UnitNginx && (application || c == d.house.gateway)
	})
	d.file(c, spec.PresetPath, spec.Preset(units), 0o644, after)
	if application || !role {
		return
	}
	for _, u := range []string{spec.UnitNginx, spec.UnitFetch, spec.UnitUpgrade} {
		if slices.Contains(units, u) {
			d.add(in(c, spec.KindUnit, "unit", u), spec.Unit{Name: u, Stopped: true}, after...)
		}
	}
}
