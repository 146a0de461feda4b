package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// The identity of a container is the MAC and the addresses that frames from its interface may carry, and that frames to
// it must. What it sends is checked where the bridge has not looked at it yet (prerouting, before br_netfilter and
// before the bridge learns where a MAC is), by an allow list: what nobody thought of is dropped. The first two bytes of
// type decide, as they stand in the frame: a tag in front of them is no IPv4, whatever the kernel makes of the rest.
//
// Frames to the link-local groups (IEEE 802.1D, table 7-10) do not pass prerouting, and the bridge learns from them all
// the same. They are dropped at the hook of what is for the hypervisor itself; but one group, LLDP's, passes no hook at
// all: a packet in it would be the hypervisor's to read, as from the port. Bridges that forward that group
// (group_fwd_mask) show it to prerouting, where it ends.

const (
	priority = "-300" // before br_netfilter (0) and nf_conntrack_bridge (-200)
	ownGroup = "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00"
	lldp     = 0x4000 // in a bridge's group_fwd_mask
	anyGroup = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00"
)

// identity are the chains that let in, and out, what is the container's own.
func identity(b *strings.Builder, s spec.Firewall) {
	port, link := `"`+s.Port+`"`, linkLocal(s.MAC)
	chain(b, "own_arp", "arp htype != 1 drop", "arp ptype != ip drop", "arp hlen != 6 drop", "arp plen != 4 drop",
		"arp operation != { request, reply } drop", "arp saddr ether != "+s.MAC+" drop",
		"arp saddr ip "+s.Address+" accept",
		"arp operation request arp saddr ip 0.0.0.0 arp daddr ip "+s.Address+" accept", // a probe (RFC 5227)
		"drop")
	// No answers of a DHCP server, no other router, no other querier of groups.
	chain(b, "own_ipv4", "udp sport 67 drop", "icmp type redirect drop", "icmp type router-advertisement drop",
		"igmp type membership-query drop", "ip saddr "+s.Address+" accept", "drop")
	own6, any6 := []string{link}, link
	if s.Address6 != "" {
		own6 = append(own6, s.Address6)
		any6 = "{ " + strings.Join(own6, ", ") + " }"
	}
	chain(b, "own_ipv6", ownIPv6(s.MAC, any6, own6)...)
	chain(b, "own", "ether saddr != "+s.MAC+" drop", ownGroup+" drop",
		"ether type vmap { arp : jump own_arp, ip : jump own_ipv4, ip6 : jump own_ipv6 }", "drop")
	chain(b, "addressed", "ether type != { arp, ip, ip6 } drop", "icmpv6 type { nd-router-advert, nd-redirect } drop",
		anyGroup+" return", "ether daddr != "+s.MAC+" drop", "ip daddr != "+s.Address+" drop",
		"ip6 daddr != "+any6+" drop")
	chain(b, "identity", "type filter hook prerouting priority "+priority+"; policy accept;",
		"iifname "+port+" jump own")
	chain(b, "identity_groups", "type filter hook input priority "+priority+"; policy accept;",
		"iifname "+port+" "+ownGroup+" drop")
	chain(b, "addressed_bridged", "type filter hook forward priority "+priority+"; policy accept;",
		"oifname "+port+" jump addressed")
	chain(b, "addressed_sent", "type filter hook output priority "+priority+"; policy accept;",
		"oifname "+port+" jump addressed")
}

// ownIPv6 lets a container speak with its own addresses only, of which the first is the link-local one; set is how
// nftables writes them. A neighbour's messages have one option at most, with its own MAC or, while it looks whether the
// address is free, a nonce (RFC 7527); their options are at a fixed place then. No extension headers but that of
// listeners' reports: behind them hides what these rules look for.
func ownIPv6(mac, set string, addresses []string) []string {
	option := func(kind string) string { return "ip6 length 32 @th,192,64 " + kind + strings.ReplaceAll(mac, ":", "") }
	own := "ip6 saddr " + set
	solicit, advert := "ip6 nexthdr icmpv6 icmpv6 type nd-neighbor-solicit ",
		"ip6 nexthdr icmpv6 icmpv6 type nd-neighbor-advert "
	out := []string{
		own + " ip6 nexthdr tcp accept",
		own + " udp sport != 547 ip6 nexthdr udp accept",
		own + " ip6 nexthdr icmpv6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, " +
			"parameter-problem, echo-request, echo-reply } accept",
		own + " " + solicit + "ip6 length 24 accept",
		own + " " + solicit + option("0x0101") + " accept",
	}
	for _, a := range addresses {
		target := "@th,64,128 " + fmt.Sprintf("0x%x", netip.MustParseAddr(a).AsSlice())
		out = append(out, "ip6 saddr :: "+solicit+"ip6 length 24 "+target+" accept",
			"ip6 saddr :: "+solicit+"ip6 length 32 @th,192,16 0x0e01 "+target+" accept",
			own+" "+advert+"ip6 length 24 "+target+" accept",
			own+" "+advert+target+" "+option("0x0201")+" accept")
	}
	return append(out, "ip6 saddr { ::, "+addresses[0]+" } ip6 nexthdr 0 icmpv6 type { mld-listener-report, "+
		"mld-listener-done, mld2-listener-report } accept", "drop")
}

// linkLocal is the address that the kernel makes of a MAC (RFC 4291, appendix A).
func linkLocal(mac string) string {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 { // Decode has refused it
		return "::"
	}
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}).String()
}

// identityDigest changes where other frames were let through before.
func identityDigest(s spec.Firewall) string {
	var b strings.Builder
	identity(&b, s)
	return digest(b.String())
}
