package main

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
)

// label is how a frame is known where it arrives. Of two the last counts.
func label(name string) []byte { return []byte(mark + name + "\x00") }

// attempt is a frame that a container must not send. Its name is in it, so that whoever receives it can tell.
type attempt struct {
	name  string
	frame []byte
}

// send sends each attempt three times, then the flood, and gives their names. "own" and "own ARP" are what a container
// may send: that they arrive shows that the others would be heard.
func send(s scene, flood int, only string) ([]string, error) {
	w, err := open(s.iface)
	if err != nil {
		return nil, err
	}
	defer w.close()
	var names []string
	for _, a := range attempts(s) {
		if !strings.Contains(a.name, only) {
			continue
		}
		frame := join(a.frame, label(a.name)) // behind what the packet's own length tells; some bridges cut it off
		for len(frame) < 60 {
			frame = append(frame, 0)
		}
		for range 3 {
			if err := w.send(frame); err != nil {
				return names, err
			}
		}
		names = append(names, a.name)
	}
	for range flood {
		forged := net.HardwareAddr{0x02, byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()),
			byte(rand.Uint32()), byte(rand.Uint32())}
		packet := ipv4(s.own.ip, s.target.ip, protoUDP, 0, udp(s.own.ip, s.target.ip, 9, 9, label("flood")))
		if err := w.send(ether(s.target.mac, forged, nil, typeIPv4, packet)); err != nil {
			return names, err
		}
	}
	return append(names, "flood"), nil
}

// tagged are the ways to hide a frame behind tags that nobody configured.
var tagged = map[string][][2]int{
	"priority tag": {{tagC, 0}}, "priority tag 7": {{tagC, 7 << 13}}, "tag": {{tagC, 5}}, "service tag": {{tagS, 5}},
	"service priority tag": {{tagS, 0}},
	"two tags":             {{tagC, 0}, {tagC, 5}}, "service and tag": {{tagS, 5}, {tagC, 0}}, "old tag": {{0x9100, 5}},
	"old tag and tag": {{0x9200, 0}, {tagC, 0}},
}

// attempts are the table, each to the target, the hypervisor and everybody.
func attempts(s scene) []attempt {
	var out []attempt
	for _, to := range []peer{s.target, s.host, {mac: broadcast, ip: netip.MustParseAddr("255.255.255.255")}} {
		for _, list := range [][]attempt{s.plain(to), s.arps(to), s.neighbours(to), s.routers(to), s.odd(to)} {
			for _, a := range list {
				out = append(out, a)
				kind := int(a.frame[12])<<8 | int(a.frame[13])
				for name, tags := range tagged {
					out = append(out,
						attempt{name + ": " + a.name,
							ether(net.HardwareAddr(a.frame[:6]), net.HardwareAddr(a.frame[6:12]), tags, kind,
								a.frame[14:])})
				}
			}
		}
	}
	own := ipv4(s.own.ip, s.host.ip, protoUDP, 0, udp(s.own.ip, s.host.ip, 9, 9, label("own")))
	return append(out, attempt{"own", ether(s.host.mac, s.own.mac, nil, typeIPv4, own)},
		attempt{"own ARP",
			ether(broadcast, s.own.mac, nil, typeARP, arp(1, s.own.mac, s.own.ip, make([]byte, 6), s.target.ip))})
}

// plain are packets of IPv4: in another's name, and in pieces.
func (s scene) plain(to peer) []attempt {
	v4 := func(name string, mac net.HardwareAddr, from netip.Addr, fragment int) attempt {
		data := udp(from, to.ip, 9, 9, join(label(name), make([]byte, 8)))
		return attempt{name,
			ether(to.mac, mac, nil, typeIPv4, ipv4(from, to.ip, protoUDP, fragment, data[:len(data)&^7]))}
	}
	out := []attempt{
		v4("forged MAC", s.victim.mac, s.own.ip, 0),
		v4("forged MAC and address", s.victim.mac, s.victim.ip, 0),
		v4("forged address", s.own.mac, s.victim.ip, 0),
		v4("the hypervisor's address", s.own.mac, s.host.ip, 0),
		v4("the hypervisor's MAC", s.host.mac, s.own.ip, 0),
		v4("no address", s.own.mac, netip.IPv4Unspecified(), 0),
		v4("forged first piece", s.own.mac, s.victim.ip, 0x2000),
		v4("forged later piece", s.own.mac, s.victim.ip, 0x0003),
		v4("forged MAC, later piece", s.victim.mac, s.own.ip, 0x0003),
	}
	mapped := func(name, from string) attempt {
		a := netip.MustParseAddr(from + s.victim.ip.String())
		target := netip.AddrFrom16(to.ip.As16())
		return attempt{name,
			ether(to.mac, s.own.mac, nil, typeIPv6, ipv6(a, target, protoUDP, udp(a, target, 9, 9, make([]byte, 24))))}
	}
	return append(out, mapped("IPv4-mapped", "::ffff:"), mapped("IPv4-compatible", "::"),
		mapped("translated", "64:ff9b::"))
}

// arps claim another's address or MAC in either of the sender's fields.
func (s scene) arps(to peer) []attempt {
	zero := make(net.HardwareAddr, 6)
	a := func(name string, from net.HardwareAddr, packet []byte) attempt {
		return attempt{name, ether(to.mac, from, nil, typeARP, packet)}
	}
	odd := arp(2, s.own.mac, s.victim.ip, to.mac, to.ip)
	odd[4] = 7 // the length of a hardware address
	reversed := attempt{"reverse ARP",
		ether(to.mac, s.own.mac, nil, 0x8035, arp(4, s.own.mac, s.victim.ip, to.mac, to.ip))}
	return []attempt{
		a("ARP answer", s.own.mac, arp(2, s.own.mac, s.victim.ip, to.mac, to.ip)),
		a("ARP question", s.own.mac, arp(1, s.own.mac, s.victim.ip, zero, to.ip)),
		a("ARP of a forged MAC", s.own.mac, arp(2, s.victim.mac, s.own.ip, to.mac, to.ip)),
		a("ARP in the victim's name", s.victim.mac, arp(2, s.victim.mac, s.victim.ip, to.mac, to.ip)),
		a("ARP from a forged MAC", s.victim.mac, arp(2, s.own.mac, s.own.ip, to.mac, to.ip)),
		a("gratuitous ARP question", s.own.mac, arp(1, s.own.mac, s.victim.ip, zero, s.victim.ip)),
		a("gratuitous ARP answer", s.own.mac, arp(2, s.own.mac, s.victim.ip, broadcast, s.victim.ip)),
		a("gratuitous ARP for the hypervisor", s.own.mac, arp(2, s.own.mac, s.host.ip, broadcast, s.host.ip)),
		a("ARP probe for the victim's", s.own.mac, arp(1, s.own.mac, netip.IPv4Unspecified(), zero, s.victim.ip)),
		a("ARP of odd length", s.own.mac, odd), a("short ARP", s.own.mac, odd[:12]), reversed,
	}
}

// neighbours are messages of RFC 4861, section 4.3 and 4.4, and what hides them.
func (s scene) neighbours(to peer) []attempt {
	mac := to.mac
	if to.mac.String() == broadcast.String() {
		mac = allGroup
	}
	own, forged := s.own.link(), s.victim.link()
	option := func(kind byte, m net.HardwareAddr) []byte { return join([]byte{kind, 1}, m) }
	nd := func(name string, ethFrom net.HardwareAddr, from netip.Addr, kind byte, target netip.Addr,
		options ...[]byte) attempt {
		flags := []byte{0, 0, 0, 0}
		if kind == 136 {
			flags[0] = 0x20 // override
		}
		body := icmp6(from, allNodes, kind, join(flags, target.AsSlice(), join(options...)))
		return attempt{name, ether(mac, ethFrom, nil, typeIPv6, ipv6(from, allNodes, protoICMPv6, body))}
	}
	advert := icmp6(own, allNodes, 136, join([]byte{0x20, 0, 0, 0}, forged.AsSlice(), option(2, s.own.mac)))
	behind := func(name string, next byte, header []byte) attempt {
		return attempt{name, ether(mac, s.own.mac, nil, typeIPv6, ipv6(own, allNodes, next, join(header, advert)))}
	}
	return []attempt{
		nd("ND advertisement", s.own.mac, own, 136, forged, option(2, s.own.mac)),
		nd("ND advertisement without a MAC", s.own.mac, own, 136, forged),
		nd("ND advertisement from the victim", s.own.mac, forged, 136, forged, option(2, s.own.mac)),
		nd("ND advertisement of another MAC", s.own.mac, own, 136, own, option(2, s.victim.mac)),
		nd("ND advertisement of two MACs", s.own.mac, own, 136, own, option(2, s.own.mac), option(2, s.victim.mac)),
		nd("ND advertisement of a global address", s.own.mac, own, 136, netip.MustParseAddr("2001:db8::1"),
			option(2, s.own.mac)),
		nd("ND question from the victim", s.own.mac, forged, 135, s.target.link(), option(1, s.own.mac)),
		nd("ND question of another MAC", s.own.mac, own, 135, s.target.link(), option(1, s.victim.mac)),
		nd("ND question of two MACs", s.own.mac, own, 135, s.target.link(), option(1, s.own.mac),
			option(1, s.victim.mac)),
		nd("ND probe for the victim's", s.own.mac, netip.IPv6Unspecified(), 135, forged),
		nd("ND from a forged MAC", s.victim.mac, forged, 136, forged, option(2, s.victim.mac)),
		behind("ND behind options", 0, []byte{protoICMPv6, 0, 1, 4, 0, 0, 0, 0}),
		behind("ND behind destination options", 60, []byte{protoICMPv6, 0, 1, 4, 0, 0, 0, 0}),
		behind("ND in one piece", 44, []byte{protoICMPv6, 0, 0, 0, 0, 0, 0, 1}),
		behind("ND in the first piece", 44, []byte{protoICMPv6, 0, 0, 1, 0, 0, 0, 2}),
	}
}

// routers are those who would lead everybody's packets elsewhere, and servers that hand out addresses.
func (s scene) routers(to peer) []attempt {
	mac, own := to.mac, s.own.link()
	if to.mac.String() == broadcast.String() {
		mac = allGroup
	}
	prefix := join([]byte{3, 4, 64, 0xc0}, u32(86400), u32(86400), u32(0),
		netip.MustParseAddr("2001:db8:666::").AsSlice())
	body := join([]byte{64, 0}, u16(9000), u32(0), u32(0), prefix, []byte{1, 1}, s.own.mac)
	advert := icmp6(own, allNodes, 134, body)
	v6 := func(name string, next byte, payload []byte) attempt {
		return attempt{name, ether(mac, s.own.mac, nil, typeIPv6, ipv6(own, allNodes, next, payload))}
	}
	pad := []byte{1, 4, 0, 0, 0, 0}
	v4 := func(name string, to2 peer, proto byte, payload []byte) attempt {
		return attempt{name, ether(to2.mac, s.own.mac, nil, typeIPv4, ipv4(s.own.ip, to2.ip, proto, 0, payload))}
	}
	offer := join([]byte{2, 1, 6, 0}, make([]byte, 232), []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 2, 255},
		label("DHCP offer"))
	piece := udp(s.own.ip, s.target.ip, 67, 68, join(label("DHCP offer in pieces"), make([]byte, 300)))[:64]
	inner := ipv4(to.ip, s.victim.ip, protoUDP, 0, make([]byte, 8))
	first := attempt{"DHCP offer in pieces",
		ether(to.mac, s.own.mac, nil, typeIPv4, ipv4(s.own.ip, to.ip, protoUDP, 0x2000, piece))}
	return []attempt{
		v6("RA", protoICMPv6, advert),
		v6("RA behind options", 0, join([]byte{protoICMPv6, 0}, pad, advert)),
		v6("RA behind destination options", 60, join([]byte{protoICMPv6, 0}, pad, advert)),
		v6("RA behind a routing header", 43, join([]byte{protoICMPv6, 0, 4, 0, 0, 0, 0, 0}, advert)),
		v6("RA in one piece", 44, join([]byte{protoICMPv6, 0, 0, 0, 0, 0, 0, 1}, advert)),
		v6("RA in pieces behind options", 44,
			join([]byte{60, 0, 0, 1, 0, 0, 0, 3}, []byte{protoICMPv6, 0}, pad, advert)),
		v6("redirect", protoICMPv6, icmp6(own, allNodes, 137, join(u32(0), own.AsSlice(), s.victim.link().AsSlice()))),
		v6("router's question", protoICMPv6, icmp6(own, allNodes, 133, join(u32(0), []byte{1, 1}, s.victim.mac))),
		v6("listeners' query", 0,
			join([]byte{protoICMPv6, 0, 5, 2, 0, 0, 1, 0}, icmp6(own, allNodes, 130, make([]byte, 20)))),
		v6("DHCPv6 answer", protoUDP, udp(own, allNodes, 547, 546, make([]byte, 40))),
		v4("DHCP offer", to, protoUDP, udp(s.own.ip, to.ip, 67, 68, offer)), first,
		v4("IPv4 redirect", to, protoICMP, icmp(5, 1, join(s.own.ip.AsSlice(), inner, label("IPv4 redirect")))),
		v4("IPv4 router advertisement", to, protoICMP,
			icmp(9, 0, join([]byte{1, 2, 0, 99}, s.own.ip.AsSlice(), u32(0), label("IPv4 router advertisement")))),
		v4("group query", to, protoIGMP, icmp(0x11, 100, join(u32(0), label("group query")))),
	}
}

// odd are frames of other types, and to the groups that a bridge keeps for itself.
func (s scene) odd(to peer) []attempt {
	var out []attempt
	inside := ipv4(s.victim.ip, s.target.ip, protoUDP, 0,
		udp(s.victim.ip, s.target.ip, 9, 9, label("inside an odd frame")))
	mine := ipv4(s.own.ip, s.target.ip, protoUDP, 0, udp(s.own.ip, s.target.ip, 9, 9, label("its own in an odd frame")))
	for name, kind := range map[string]int{"PPPoE": 0x8864, "MPLS": 0x8847, "EAPOL": 0x888e, "LLDP": 0x88cc,
		"loopback": 0x9000, "an experiment": 0x88b5,
		"MACsec": 0x88e5, "provider backbone": 0x88e7, "no type": 0, "a length": len(inside)} {
		out = append(out, attempt{name, ether(to.mac, s.own.mac, nil, kind, inside)},
			attempt{name + " from the victim", ether(to.mac, s.victim.mac, nil, kind, inside)})
	}
	snap := join([]byte{0xaa, 0xaa, 3, 0, 0, 0}, u16(typeIPv4), inside)
	short := []byte{0x45, 0, 0, 10}
	out = append(out, attempt{"SNAP", ether(to.mac, s.own.mac, nil, len(snap), snap)},
		attempt{"SNAP from the victim", ether(to.mac, s.victim.mac, nil, len(snap), snap)},
		attempt{"IPv6 that is IPv4", ether(to.mac, s.own.mac, nil, typeIPv6, inside)},
		attempt{"IPv4 that is IPv6",
			ether(to.mac, s.own.mac, nil, typeIPv4, ipv6(s.victim.link(), allNodes, protoUDP, make([]byte, 40)))},
		attempt{"short IPv4", ether(to.mac, s.own.mac, nil, typeIPv4, short)},
		attempt{"short IPv6", ether(to.mac, s.own.mac, nil, typeIPv6, short)})
	advert := join([]byte{64, 0}, u16(9000), u32(0), u32(0), []byte{1, 1}, s.own.mac)
	ra := ipv6(s.own.link(), allNodes, protoICMPv6, icmp6(s.own.link(), allNodes, 134, advert))
	toHost := ipv4(s.victim.ip, s.host.ip, protoUDP, 0,
		udp(s.victim.ip, s.host.ip, 9, 9, label("IPv4 in a group of bridges")))
	for last, name := range map[byte]string{0: "STP", 1: "pause", 2: "slow protocols", 3: "802.1X", 0xe: "LLDP's",
		0xf: "the last"} {
		group := net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, last}
		out = append(out, attempt{name + " group", ether(group, s.own.mac, nil, typeIPv4, mine)},
			attempt{name + " group from the victim", ether(group, s.victim.mac, nil, typeIPv4, inside)},
			attempt{name + " group, LLDP from the victim", ether(group, s.victim.mac, nil, 0x88cc, inside)},
			attempt{"RA in " + name + " group", ether(group, s.own.mac, nil, typeIPv6, ra)},
			attempt{name + " group to the hypervisor", ether(group, s.own.mac, nil, typeIPv4, toHost)})
	}
	return out
}
