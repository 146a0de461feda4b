package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// zones checks the resolver and its zones.
func (c *checker) zones() {
	h := &c.cfg.Hypervisor
	c.upstreams(&h.DNS)
	names, records := unique{}, unique{}
	for _, z := range h.DNS.Zones {
		z.Name = strings.ToLower(strings.TrimSuffix(z.Name, "."))
		if problem := dnsNameProblem(z.Name, false); problem != "" {
			if z.has("zone_name") && !c.toldAt(z.At, "zone_name") {
				c.errorf(z.At, "zone_name", "a name such as internal.example", "%q is not a zone: %s", z.Name, problem)
			}
			continue
		}
		c.once(names, z.Name, z.At, "zone_name", "the zone", "put all its records in one zone")
		for _, r := range z.Records {
			c.record(z, r, records)
		}
	}
}

// upstreams refuses a resolver that would ask itself.
func (c *checker) upstreams(d *DNSServer) {
	own := c.cfg.Hypervisor.Network.Interface.Address
	for i, u := range d.Upstreams {
		if u.IsValid() && (own.IsValid() && u == own.Addr() || u.IsLoopback() || u.IsUnspecified()) {
			c.errorf(d.At, element("upstream_servers", i), "name a resolver outside, such as the router",
				"%s is this resolver itself: questions would go round in a loop", u)
		}
	}
	if d.Enabled && len(d.Upstreams) == 0 && !d.has("upstream_servers") {
		c.warnf(d.At, "", "add upstream_servers", "no upstream servers: only the names of the zones will be answered")
	}
}

func (c *checker) record(z *Zone, r *Record, seen unique) {
	if r.Hostname == "" && (!r.has("hostname") || c.toldAt(r.At, "hostname")) {
		return
	}
	full := r.FullName(z)
	if !c.recordName(z, r, full) {
		return
	}
	c.recordAddress(r, "ip_external", r.External)
	c.recordAddress(r, "ip_internal", r.Internal)
	addresses := r.Addresses()
	if len(addresses) == 0 && !c.toldAt(r.At, "ip_external") && !c.toldAt(r.At, "ip_internal") {
		c.errorf(r.At, "", "add ip_internal or ip_external", "the record %s has no address", full)
	}
	for _, ip := range addresses {
		c.once(seen, full+" "+ip.String(), r.At, "hostname", "the record", "remove one of them")
		if x := c.gatewayAt(ip); x != nil {
			c.served(r, full, x)
		}
	}
}

func (c *checker) recordAddress(r *Record, key string, ip netip.Addr) {
	if ip.Zone() != "" || ip.IsValid() && (ip.IsUnspecified() || ip.IsMulticast()) {
		c.errorf(r.At, key, "the address of a host", "%s cannot be the address of a record", ip)
	}
}

func (c *checker) recordName(z *Zone, r *Record, full string) bool {
	problem := dnsNameProblem(full, true)
	if r.Hostname == "" {
		problem = "it is empty; @ is the zone itself"
	}
	if strings.Contains(r.Hostname, "*") {
		problem = "wildcards are not done here, since no certificate could be had for them"
	}
	if problem == "" && !strings.HasSuffix("."+full, "."+z.Name) {
		problem = "it is not in the zone " + z.Name
	}
	if problem != "" {
		c.errorf(r.At, "hostname", "the name without the zone's, such as www", "%q is not the name of a record: %s",
			r.Hostname, problem)
		return false
	}
	if within := strings.TrimSuffix(strings.ToLower(r.Hostname), "."+z.Name); within != strings.ToLower(r.Hostname) {
		c.warnf(r.At, "hostname", fmt.Sprintf("write %q", within), "the record's full name is %s", full)
	}
	return true
}

// gatewayAt is the gateway if it has the address.
func (c *checker) gatewayAt(ip netip.Addr) *Container {
	for _, x := range c.gateways {
		if x.Network.Address.Addr() == ip {
			return x
		}
	}
	return nil
}

// served checks a name that points at the gateway: the gateway's certificate has it.
func (c *checker) served(r *Record, full string, gateway *Container) {
	if problem, hint := certificateNameProblem(full); problem != "" {
		c.errorf(r.At, "hostname", hint, "%s points at the gateway %s, but cannot be in its certificate: %s", full,
			gateway.ID, problem)
	}
}
