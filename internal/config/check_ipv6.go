package config

import "net/netip"

// What every host takes in one piece (RFC 791, RFC 8200).
const (
	smallestMTU  = 576
	smallestMTU6 = 1280
)

func (c *checker) mtu(n Network) {
	if n.MTU == nil || *n.MTU == 0 {
		return
	}
	family, least := "IPv4", smallestMTU
	if n.Address6.IsValid() {
		family, least = "IPv6", smallestMTU6
	}
	if *n.MTU < least {
		c.errorf(n.At, "mtu", "such as 1400, or leave it out for the bridge's", "%d is less than %s needs, which is %d",
			*n.MTU, family, least)
	}
}

// ipv6 checks a container's second address, and its router.
func (c *checker) ipv6(n Network, addresses unique) {
	own, gateway := n.Address6, n.Gateway6
	problem := ""
	switch ip := own.Addr(); {
	case !own.IsValid():
		if gateway.IsValid() {
			c.errorf(n.At, "gw6", `add "ip6", or take gw6 out`, "there is no ip6 that could use the gateway %s",
				gateway)
		}
		return
	case !ip.Is6() || ip.Is4In6():
		problem = "it is no IPv6 address"
	case !ip.IsGlobalUnicast():
		problem = "no host can have it but on its own link"
	case own.Bits() < 16:
		problem = "the prefix length is not from 16 to 128"
	case own.Bits() < 127 && ip == own.Masked().Addr():
		problem = "it is the network itself"
	}
	if problem != "" {
		c.errorf(n.At, "ip6", "such as 2001:db8:7::5/64", "%s cannot be used: %s", own, problem)
		return
	}
	c.once(addresses, own.Addr().String(), n.At, "ip6", "the address", "give each container an address of its own")
	c.gateway6(n, own, gateway)
}

func (c *checker) gateway6(n Network, own netip.Prefix, gateway netip.Addr) {
	const hint = "name the router of the subnet, or its address on the link (fe80::1)"
	switch {
	case !gateway.IsValid():
	case !gateway.Is6() || gateway.Is4In6() || gateway.Zone() != "" ||
		!gateway.IsGlobalUnicast() && !gateway.IsLinkLocalUnicast():
		c.errorf(n.At, "gw6", hint, "%s is no IPv6 address of a router", gateway)
	case gateway == own.Addr():
		c.errorf(n.At, "gw6", hint, "the container is its own gateway")
	case !own.IsSingleIP() && !gateway.IsLinkLocalUnicast() && !own.Contains(gateway):
		c.errorf(n.At, "gw6", hint, "the gateway %s is outside of the container's subnet %s", gateway, own.Masked())
	}
}
