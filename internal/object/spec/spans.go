package spec

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Span is all numbers from First to Last: ports, or IPv4 addresses.
type Span struct{ First, Last uint32 }

// Addresses writes a list of IPv4 addresses, subnets and ranges (10.0.0.1-10.0.0.9) the one way in which its meaning is
// written here: sorted, as the fewest addresses and subnets that it takes. Anything at all is empty.
func Addresses(text string) (string, error) {
	if anywhere(text) {
		return "", nil
	}
	spans, err := addressSpans(text)
	if err != nil {
		return "", err
	}
	if len(spans) == 1 && spans[0] == (Span{0, 1<<32 - 1}) {
		return "", nil
	}
	var out []string
	for _, s := range spans {
		out = append(out, s.subnets()...)
	}
	return strings.Join(out, ","), nil
}

func anywhere(text string) bool {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "", "any", "*", "0.0.0.0", "::/0":
		return true
	}
	return false
}

// subnets are the fewest that make up the span; those of one address are written without their length.
func (s Span) subnets() (out []string) {
	for first, end := uint64(s.First), uint64(s.Last)+1; first < end; {
		size := uint64(1) << min(bits.TrailingZeros64(first|1<<32), bits.Len64(end-first)-1)
		if size == 1 {
			out = append(out, address(uint32(first)).String())
		} else {
			out = append(out, netip.PrefixFrom(address(uint32(first)), 33-bits.Len64(size)).String())
		}
		first += size
	}
	return out
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func addressSpans(text string) ([]Span, error) {
	return spans(text, func(part string) (Span, error) {
		if from, to, ranged := strings.Cut(part, "-"); ranged {
			return between(from, to, addressNumber)
		}
		if !strings.Contains(part, "/") {
			return between(part, part, addressNumber)
		}
		p, err := netip.ParsePrefix(part)
		if err != nil || !p.Addr().Is4() {
			return Span{}, fmt.Errorf("%q is no IPv4 subnet", part)
		}
		first := binary.BigEndian.Uint32(p.Masked().Addr().AsSlice())
		return Span{first, first | uint32(1<<(32-p.Bits())-1)}, nil
	})
}

func addressNumber(text string) (uint32, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("%q is no IPv4 address", text)
	}
	return binary.BigEndian.Uint32(a.AsSlice()), nil
}

// Ports writes a list of ports and ranges (8000:8010) the one way in which its meaning is written here. Every port is
// empty.
func Ports(text string) (string, error) {
	if strings.TrimSpace(text) == "" {
		return "", nil
	}
	spans, err := portSpans(text)
	if err != nil || len(spans) == 1 && spans[0] == (Span{0, 65535}) {
		return "", err
	}
	var out []string
	for _, s := range spans {
		p := strconv.Itoa(int(s.First))
		if s.Last > s.First {
			p += ":" + strconv.Itoa(int(s.Last))
		}
		out = append(out, p)
	}
	return strings.Join(out, ","), nil
}

func portSpans(text string) ([]Span, error) {
	return spans(text, func(part string) (Span, error) {
		from, to, ranged := strings.Cut(part, ":")
		if !ranged {
			to = from
		}
		return between(from, to, portNumber)
	})
}

// known are the names of ports that stand in people's rules (services(5)).
var known = map[string]uint32{"ftp": 21, "ssh": 22, "smtp": 25, "domain": 53, "http": 80, "ntp": 123, "snmp": 161,
	"ldap": 389, "https": 443, "nfs": 2049, "mysql": 3306, "postgresql": 5432}

func portNumber(text string) (uint32, error) {
	if n, ok := known[strings.ToLower(text)]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || text[0] == '+' {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return uint32(n), nil
}

func between(from, to string, number func(string) (uint32, error)) (Span, error) {
	first, err := number(strings.TrimSpace(from))
	last, err2 := number(strings.TrimSpace(to))
	if err := cmp.Or(err, err2); err != nil {
		return Span{}, err
	}
	if last < first {
		return Span{}, fmt.Errorf("%s is behind %s", from, to)
	}
	return Span{first, last}, nil
}

// spans reads a list, sorts it and joins what touches.
func spans(text string, one func(string) (Span, error)) ([]Span, error) {
	var all []Span
	for part := range strings.SplitSeq(text, ",") {
		s, err := one(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var out []Span
	for _, s := range all {
		if n := len(out); n > 0 && uint64(s.First) <= uint64(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, s.Last)
			continue
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, errors.New("the list is empty")
	}
	return out, nil
}

// within reports whether all of inner is in outer; empty lists are everything.
func within(inner, outer string, read func(string) ([]Span, error)) bool {
	if outer == "" || inner == outer {
		return true
	}
	if inner == "" {
		return false
	}
	in, err := read(inner)
	out, err2 := read(outer)
	return err == nil && err2 == nil && !slices.ContainsFunc(in, func(i Span) bool {
		return !slices.ContainsFunc(out, func(o Span) bool { return o.First <= i.First && i.Last <= o.Last })
	})
}

// touch reports whether two lists may have something in common; empty lists are everything.
func touch(a, b string, read func(string) ([]Span, error)) bool {
	if a == "" || b == "" {
		return true
	}
	as, err := read(a)
	bs, err2 := read(b)
	return err != nil || err2 != nil || slices.ContainsFunc(as, func(x Span) bool {
		return slices.ContainsFunc(bs, func(y Span) bool { return x.First <= y.Last && y.First <= x.Last })
	})
}
