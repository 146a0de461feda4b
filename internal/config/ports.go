package config

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// portPair is an entry of ports: 8000:8000, 8000, or 5353:53/udp.
var portPair = regexp.MustCompile(`^([0-9]{1,5})(?::([0-9]{1,5}))?(?:/(tcp|udp))?$`)

const portPairHint = `HOST:CONTAINER, such as "8000:8000" or "5353:53/udp"; one entry for each port`

// published is one port of the hypervisor that is meant for a container's.
type published struct {
	proto      string
	host, port int
}

func (p published) String() string { return fmt.Sprintf("%s/%d", p.proto, p.host) }

func readPublished(text string) (published, bool) {
	m := portPair.FindStringSubmatch(text)
	if m == nil {
		return published{}, false
	}
	host, _ := strconv.Atoi(m[1]) // digits, all of them
	port, _ := strconv.Atoi(cmp.Or(m[2], m[1]))
	good := host >= 1 && host <= 65535 && port >= 1 && port <= 65535
	return published{proto: cmp.Or(m[3], "tcp"), host: host, port: port}, good
}

// publishes are the ports of the hypervisor that are forwarded to the container. Files that are older than phoenix have
// ports in them, so that it takes a word for the whole site before the LAN reaches one.
func (c *Config) publishes(x *Container) (out []published) {
	if !c.Hypervisor.ForwardPorts || c.Hypervisor.Access != spec.AccessForward {
		return nil
	}
	for _, text := range x.Ports {
		if p, ok := readPublished(text); ok && x.Network.Address.Addr().Is4() {
			out = append(out, p)
		}
	}
	return out
}

// ports checks what is forwarded, and says so where it is not.
func (c *checker) ports() {
	h := &c.cfg.Hypervisor
	if h.ForwardPorts && h.Access != spec.AccessForward {
		c.errorf(h.At, "forward_ports", `set "access": "forward", or remove it`,
			"ports are forwarded with access forward only, and access is %q", h.Access)
	}
	holders := map[string]string{} // of ports
	for _, g := range c.gateways {
		holders["tcp/80"], holders["tcp/443"] = "the gateway's, container "+g.ID, "the gateway's, container "+g.ID
	}
	for _, x := range c.cfg.Containers {
		if len(x.Ports) > 0 && !h.ForwardPorts {
			c.notForwarded(x)
			continue
		}
		for i, text := range x.Ports {
			key := "ports"
			if x.has(element(key, i)) {
				key = element(key, i)
			}
			p, ok := readPublished(text)
			switch {
			case !ok:
				c.errorf(x.At, key, portPairHint, "%q is no pair of ports", text)
			case !x.Network.Address.Addr().Is4():
				c.errorf(x.At, key, "give the container an IPv4 address", "ports are forwarded to IPv4 addresses only")
			case holders[p.String()] != "":
				c.errorf(x.At, key, "give it another port of the hypervisor, the number before the colon",
					"port %s of the hypervisor is %s", p, holders[p.String()])
			default:
				holders[p.String()] = fmt.Sprintf("container %s's (%s), at %s", x.ID, x.Name, x.source(key))
			}
		}
	}
}

func (c *checker) notForwarded(x *Container) {
	c.note(x.At, "ports", `to forward them from the LAN: "access": "forward" and "forward_ports": true in the `+
		"hypervisor's file; a web server's name: traefik_service",
		"not forwarded: %s; other containers reach the container by its own address", strings.Join(x.Ports, ", "))
}

// forwards are the ports of the hypervisor that lead to containers.
func (d *derivation) forwards() (out []spec.Forward) {
	for _, c := range d.cfg.Containers {
		if d.house.templates[c.ID] {
			continue
		}
		for _, p := range d.cfg.publishes(c) {
			out = append(out, spec.Forward{Port: p.String(), To: hostPort(c.Network.Address.Addr(), p.port)})
		}
	}
	return out
}

// fromLAN are the rules for what is forwarded to a container: it comes with the client's own address, which is none of
// the bridge's subnet, and so no other container gets in by them.
func (d *derivation) fromLAN(c *Container) (out []spec.Rule) {
	subnet := d.cfg.Hypervisor.Network.Interface.Address
	if !subnet.IsValid() || !subnet.Addr().Is4() {
		return nil
	}
	sources := strings.Split(outside(subnet.Masked()), ",")
	for _, p := range d.cfg.publishes(c) {
		for part := range slices.Chunk(sources, mostAddresses) {
			out = append(out, spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: p.proto,
				Ports: strconv.Itoa(p.port), Source: strings.Join(part, ","), Comment: "the LAN, by ports"})
		}
	}
	return joined(toward(c.Network.Address.Addr(), out))
}

// outside is every IPv4 address that is not in the subnet.
func outside(subnet netip.Prefix) string {
	first := binary.BigEndian.Uint32(subnet.Addr().AsSlice())
	last := first | uint32(1<<(32-subnet.Bits())-1)
	var ranges []string
	number := func(n uint32) string { return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))).String() }
	if first > 0 {
		ranges = append(ranges, "0.0.0.0-"+number(first-1))
	}
	if last < 1<<32-1 {
		ranges = append(ranges, number(last+1)+"-255.255.255.255")
	}
	out, _ := spec.Addresses(strings.Join(ranges, ",")) // they are addresses
	return out
}
