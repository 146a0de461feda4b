package main

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Types of frames (IEEE 802 numbers).
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	tagC     = 0x8100
	tagS     = 0x88a8
)

const (
	protoICMP   = 1
	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
	allGroup  = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

func u16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func u32(v uint32) []byte {
	return binary.BigEndian.AppendUint32(nil, v)
}

func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// ether is a frame, with tags (type and what is in it) before its own type.
func ether(to, from net.HardwareAddr, tags [][2]int, kind int, payload []byte) []byte {
	out := join(to, from)
	for _, t := range tags {
		out = join(out, u16(t[0]), u16(t[1]))
	}
	return join(out, u16(kind), payload)
}

// arp has the sender's fields, then the other's (RFC 826).
func arp(operation int, from net.HardwareAddr, fromIP netip.Addr, to net.HardwareAddr, toIP netip.Addr) []byte {
	return join(u16(1), u16(typeIPv4), []byte{6, 4}, u16(operation), from, fromIP.AsSlice(), to, toIP.AsSlice())
}

func sum(parts ...[]byte) int {
	data := join(parts...)
	if len(data)%2 == 1 {
		data = append(data, 0)
	}
	var s uint32
	for i := 0; i < len(data); i += 2 {
		s += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return int(^uint16(s))
}

// ipv4 is a packet; fragment is the field of flags and offset.
func ipv4(from, to netip.Addr, proto byte, fragment int, payload []byte) []byte {
	head := join([]byte{0x45, 0}, u16(20+len(payload)), u16(0x4242), u16(fragment), []byte{64, proto, 0, 0},
		from.AsSlice(), to.AsSlice())
	binary.BigEndian.PutUint16(head[10:], uint16(sum(head)))
	return join(head, payload)
}

func ipv6(from, to netip.Addr, next byte, payload []byte) []byte {
	return join([]byte{0x60, 0, 0, 0}, u16(len(payload)), []byte{next, 255}, from.AsSlice(), to.AsSlice(), payload)
}

// pseudo is what the checksums of TCP, UDP and ICMPv6 cover besides.
func pseudo(from, to netip.Addr, proto byte, length int) []byte {
	return join(from.AsSlice(), to.AsSlice(), u32(uint32(length)), []byte{0, 0, 0, proto})
}

func udp(from, to netip.Addr, sport, dport int, data []byte) []byte {
	out := join(u16(sport), u16(dport), u16(8+len(data)), u16(0), data)
	binary.BigEndian.PutUint16(out[6:], uint16(sum(pseudo(from, to, protoUDP, len(out)), out)))
	return out
}

// icmp is for IPv4, icmp6 for IPv6.
func icmp(kind, code byte, rest []byte) []byte {
	out := join([]byte{kind, code, 0, 0}, rest)
	binary.BigEndian.PutUint16(out[2:], uint16(sum(out)))
	return out
}

func icmp6(from, to netip.Addr, kind byte, rest []byte) []byte {
	out := join([]byte{kind, 0, 0, 0}, rest)
	binary.BigEndian.PutUint16(out[2:], uint16(sum(pseudo(from, to, protoICMPv6, len(out)), out)))
	return out
}

// Flags of TCP.
const (
	fin = 1
	syn = 2
	psh = 8
	ack = 16
)

func tcp(from, to netip.AddrPort, seq, acked uint32, flags byte, data []byte) []byte {
	out := join(u16(int(from.Port())), u16(int(to.Port())), u32(seq), u32(acked), []byte{5 << 4, flags}, u16(65000),
		u16(0), u16(0), data)
	binary.BigEndian.PutUint16(out[16:], uint16(sum(pseudo(from.Addr(), to.Addr(), protoTCP, len(out)), out)))
	return out
}
