package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
)

// linkName is what Linux takes for the name of an interface (15 bytes), without the odd ones.
var linkName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,14}$`)

// networks checks every container's interface, and that no two share an address or a MAC.
func (c *checker) networks() {
	addresses, macs := unique{}, unique{}
	if bridge := c.cfg.Hypervisor.Network.Interface; bridge.Address.IsValid() {
		addresses[bridge.Address.Addr().String()] = bridge.source("address")
		if bridge.Gateway.IsValid() {
			addresses[bridge.Gateway.String()] = bridge.source("gateway")
		}
		c.allowed(bridge)
	}
	for _, x := range c.cfg.Containers {
		n := x.Network
		c.matches(n.At, "name", n.Name, linkName, "the name of an interface (at most 15 characters)")
		c.matches(n.At, "bridge", n.Bridge, linkName, "the name of a bridge (at most 15 characters)")
		if n.Address.IsValid() && c.hostAddress(n.At, "ip", n.Address) {
			c.once(addresses, n.Address.Addr().String(), n.At, "ip", "the address",
				"give each container an address of its own")
			c.gateway(n)
			c.onBridge(x)
		}
		c.ipv6(n, addresses)
		c.mtu(n)
		c.nameservers(n.At, "nameservers", n.Nameservers)
		c.once(macs, string(x.MAC), x.At, "mac_address", "the MAC", "give each container a MAC of its own, or none: "+
			"then one is made up")
	}
}

// hostAddress reports whether the address can be that of one host in its subnet.
func (c *checker) hostAddress(a At, key string, p netip.Prefix) bool {
	ip := p.Addr()
	problem := ""
	switch {
	case !ip.Is4():
		problem = "only IPv4 is done here"
	case ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() ||
		ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		problem = "no host can have it"
	case p.IsSingleIP() && key == "ip": // as hosters give them
	case p.Bits() < 8 || p.Bits() > 30:
		problem = "the prefix length is not from 8 to 30"
		if key == "ip" {
			problem += ", nor 32"
		}
	case ip == p.Masked().Addr():
		problem = "it is the network itself"
	case ip == broadcast(p):
		problem = "it is the broadcast address of its subnet"
	}
	if problem != "" {
		c.errorf(a, key, "an address of one host, such as 10.0.0.5/24", "%s cannot be used: %s", p, problem)
	}
	return problem == ""
}

// broadcast is the last address of an IPv4 subnet.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

func (c *checker) gateway(n Network) {
	switch {
	case !n.Gateway.IsValid() && n.Address.IsSingleIP():
		c.errorf(n.At, "ip", `add "gw", the router that the hoster names`, "%s has no neighbours, and no gateway",
			n.Address)
	case !n.Gateway.IsValid():
	case n.Gateway == n.Address.Addr():
		c.errorf(n.At, "gw", "name the router of the subnet", "the container is its own gateway")
	case n.Address.IsSingleIP():
	case !n.Address.Contains(n.Gateway):
		c.errorf(n.At, "gw", "name the router of the subnet", "the gateway %s is outside of the container's subnet %s",
			n.Gateway, n.Address.Masked())
	}
}

// onBridge checks that the container is on the bridge that the hypervisor's file describes: phoenix makes no other one,
// and the containers could not reach the CA.
func (c *checker) onBridge(x *Container) {
	n, bridge := x.Network, c.cfg.Hypervisor.Network.Interface
	if bridge.Name == "" || n.Bridge == "" {
		return
	}
	routed := n.Address.IsSingleIP() || n.tag() > 0 && n.Gateway.IsValid()
	switch {
	case n.Bridge != bridge.Name:
		c.errorf(n.At, "bridge", "write "+bridge.Name, "no bridge %s is known; network.interfaces at %s has %s",
			n.Bridge, bridge.Source, bridge.Name)
	case !bridge.Address.IsValid():
	case bridge.Address.Contains(n.Address.Addr()):
		c.length(x)
	case routed && n.tag() == 0:
		c.warnf(n.At, "ip", fmt.Sprintf("ip route add %s dev %s, and in the hypervisor's own network configuration",
			n.Address, bridge.Name), "%s is outside of the subnet %s of the bridge %s at %s: the hypervisor needs a "+
			"route to it", n.Address, bridge.Address.Masked(), bridge.Name, bridge.source("address"))
	case !routed:
		c.errorf(n.At, "ip", "", "%s is outside of the subnet %s of the bridge %s at %s", n.Address,
			bridge.Address.Masked(), bridge.Name, bridge.source("address"))
	}
}

// tag is the VLAN; 0: none.
func (n Network) tag() int {
	if n.Tag == nil {
		return 0
	}
	return *n.Tag
}

// length compares the prefix length of a container that is in the bridge's subnet with the bridge's. In a wider one the
// container asks the bridge for hosts that are not there; in a narrower one it has no way to its neighbours but by a
// gateway.
func (c *checker) length(x *Container) {
	n, bridge := x.Network, c.cfg.Hypervisor.Network.Interface
	same := netip.PrefixFrom(n.Address.Addr(), bridge.Address.Bits())
	switch {
	case n.Address.IsSingleIP() || n.Address == same:
	case n.Address.Bits() < same.Bits():
		c.errorf(n.At, "ip", "write "+same.String(), "%s is wider than the subnet %s of the bridge %s at %s: the "+
			"container looks on the bridge for hosts outside of it, where nobody answers", n.Address,
			bridge.Address.Masked(), bridge.Name, bridge.source("address"))
	case n.Gateway.IsValid():
		c.warnf(n.At, "ip", "write "+same.String(), "%s is narrower than the subnet %s of the bridge %s at %s: the "+
			"container reaches the rest of it by way of %s only", n.Address, bridge.Address.Masked(), bridge.Name,
			bridge.source("address"), n.Gateway)
	default:
		if whose, at := c.beyond(x); whose != "" {
			c.errorf(n.At, "ip", "write "+same.String(), "%s is narrower than the subnet %s of the bridge %s at %s, "+
				"and there is no gw: %s, %s, is out of reach", n.Address, bridge.Address.Masked(), bridge.Name,
				bridge.source("address"), at, whose)
		}
	}
}

// beyond is a neighbour on the bridge that is outside of a container's own subnet; empty: there is none.
func (c *checker) beyond(x *Container) (whose string, at netip.Addr) {
	bridge := c.cfg.Hypervisor.Network.Interface
	if at = bridge.Address.Addr(); !x.Network.Address.Contains(at) {
		return "the hypervisor", at
	}
	for _, other := range c.cfg.Containers {
		if at = other.Network.Address.Addr(); at.IsValid() && !x.Network.Address.Contains(at) &&
			other.Network.Bridge == x.Network.Bridge {
			return "container " + other.ID, at
		}
	}
	return "", netip.Addr{}
}

func (c *checker) nameservers(a At, key string, servers []string) {
	for i, s := range servers {
		if ip, err := netip.ParseAddr(s); err != nil || ip.Zone() != "" || ip.IsUnspecified() {
			k := key
			if a.has(element(key, i)) {
				k = element(key, i)
			}
			c.errorf(a, k, "an address such as 10.0.0.13", "%q is not the address of a name server", s)
		}
	}
}

// bridge checks the hypervisor's own side.
func (c *checker) bridge() {
	n := c.cfg.Hypervisor.Network
	b := n.Interface
	c.matches(b.At, "name", b.Name, linkName, "the name of a bridge (at most 15 characters)")
	c.nameservers(b.At, "dns_nameservers", b.Nameservers)
	if !b.Address.IsValid() || !c.hostAddress(b.At, "address", b.Address) {
		return
	}
	if b.Gateway.IsValid() && (!b.Address.Contains(b.Gateway) || b.Gateway == b.Address.Addr()) {
		c.errorf(b.At, "gateway", "name the router of the subnet",
			"the gateway %s is not another host of the subnet %s", b.Gateway, b.Address.Masked())
	}
	if n.DefaultSubnet.IsValid() && n.DefaultSubnet.Masked() != b.Address.Masked() {
		c.warnf(n.At, "default_subnet", "", "%s is not the subnet %s of the bridge %s, which counts", n.DefaultSubnet,
			b.Address.Masked(), b.Name)
	}
}

// portOfHost is an entry of allow_from_containers and of listens.
var portOfHost = regexp.MustCompile(`^(tcp|udp)/([0-9]{1,5})(?:-([0-9]{1,5}))?$`)

// allowed checks what containers are to reach of the hypervisor.
func (c *checker) allowed(bridge HostInterface) {
	c.portList(bridge.At, "allow_from_containers", bridge.Allow,
		`such as "tcp/3128" or "udp/8000-8010"; "all" restricts nothing`, allowAll)
}

// portList checks a list of protocols with ports; other words are permitted.
func (c *checker) portList(at At, key string, list Words, hint string, words ...string) {
	for i, p := range list {
		m := portOfHost.FindStringSubmatch(p)
		if m == nil {
			if !slices.Contains(words, p) {
				c.errorf(at, element(key, i), hint, "%q is no protocol with a port", p)
			}
			continue
		}
		first, _ := strconv.Atoi(m[2]) // digits, all of them
		last, _ := strconv.Atoi(cmp.Or(m[3], m[2]))
		if first < 1 || last > 65535 || last < first {
			c.errorf(at, element(key, i), hint, "%q is no port from 1 to 65535", p)
		}
	}
}
