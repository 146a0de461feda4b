package netfilter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// match is whether a rule is about a packet.
type match int

const (
	yes match = iota
	maybe
	no
)

// rule is one that was read for one packet.
type rule struct {
	matches match
	verdict string // accept, drop, jump, goto or return; empty: none
	target  string // of jump and goto
}

// sourcePort is what a client takes that does not care.
const sourcePort = 40000

// read reads a rule as far as the packet needs.
func (p Packet) read(text string) rule {
	w := &words{list: split(text)}
	var r rule
	for r.verdict == "" && len(w.list) > 0 {
		m := p.next(w, &r)
		if w.mapped && m == maybe {
			r.verdict = "return" // which one it has is not followed
		}
		r.matches = max(r.matches, m)
		if m == no {
			return r
		}
	}
	return r
}

// words are what is left of a rule.
type words struct {
	list   []string
	mapped bool // a map of verdicts was there
}

func (w *words) next() string {
	if len(w.list) == 0 {
		return ""
	}
	first := w.list[0]
	w.list = w.list[1:]
	return first
}

// split is a rule in words: quoted texts and sets are one each.
func split(text string) (out []string) {
	quoted, depth := false, 0
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			out = append(out, b.String())
			b.Reset()
		}
	}
	for _, c := range text {
		switch {
		case c == '"':
			quoted = !quoted
		case c == '{' && !quoted:
			depth++
		case c == '}' && !quoted:
			depth--
		case c == ' ' && !quoted && depth == 0:
			flush()
			continue
		}
		b.WriteRune(c)
	}
	flush()
	return out
}

// next reads one expression or statement.
func (p Packet) next(w *words, r *rule) match {
	word := w.next()
	switch word {
	case "accept", "drop", "return":
		r.verdict = word
	case "reject":
		r.verdict = "drop"
	case "jump", "goto":
		r.verdict, r.target = word, w.next()
	case "masquerade", "dnat", "snat", "redirect", "queue", "tproxy", "synproxy":
		r.verdict = "accept"
	case "counter":
		if len(w.list) > 3 && w.list[0] == "packets" {
			w.list = w.list[4:]
		}
	case "comment":
		w.next()
	case "log":
		w.log()
	case "meta":
		return p.meta(w)
	case "iifname", "oifname", "iif", "oif":
		return p.meta(&words{list: []string{word}}, w)
	case "ip":
		return p.header(w)
	case "ip6", "icmp", "icmpv6", "arp", "sctp", "dccp", "esp", "ah":
		return no
	case "tcp", "udp", "th", "udplite":
		return p.transport(word, w)
	case "ct":
		return conntrack(w)
	case "fib":
		return p.route(w)
	case "pkttype":
		return value(w, func(v string) match { return is(v == "host" || v == "unicast") })
	case "xt":
		return extension(w)
	default:
		w.list = append([]string{word}, w.list...)
		return w.unknown(r)
	}
	return yes
}

// unknown skips to the verdict of a rule that says something else.
func (w *words) unknown(r *rule) match {
	for len(w.list) > 0 {
		switch w.list[0] {
		case "accept", "drop", "return", "reject", "jump", "goto", "queue", "masquerade":
			return maybe
		}
		if strings.HasPrefix(w.next(), "{") {
			r.verdict = "return" // a map of verdicts: nobody knows which
		}
	}
	return maybe
}

// log skips what a log statement says.
func (w *words) log() {
	for len(w.list) > 1 && slices.Contains([]string{"prefix", "level", "flags", "group", "snaplen", "queue-threshold"},
		w.list[0]) {
		w.list = w.list[2:]
	}
}

// meta reads what is known of a packet besides its headers. The first of several lists has the key.
func (p Packet) meta(lists ...*words) match {
	w := lists[len(lists)-1]
	switch key := lists[0].next(); key {
	case "iifname", "iif":
		return value(w, func(v string) match { return named(p.In, v) })
	case "oifname", "oif":
		return value(w, func(v string) match { return named(p.Out, v) })
	case "l4proto":
		return value(w, func(v string) match { return is(v == p.Proto || v == protocols[p.Proto]) })
	case "nfproto":
		return value(w, func(v string) match { return is(v == "ipv4" || v == "2") })
	case "pkttype":
		return value(w, func(v string) match { return is(v == "host" || v == "unicast") })
	}
	value(w, func(string) match { return maybe })
	return maybe
}

var protocols = map[string]string{"tcp": "6", "udp": "17"}

// header reads an expression of the IPv4 header.
func (p Packet) header(w *words) match {
	switch w.next() {
	case "saddr":
		return value(w, func(v string) match { return within(p.Source, v) })
	case "daddr":
		return value(w, func(v string) match { return within(p.Destination, v) })
	case "protocol":
		return value(w, func(v string) match { return is(v == p.Proto || v == protocols[p.Proto]) })
	}
	value(w, func(string) match { return maybe })
	return maybe
}

func (p Packet) transport(proto string, w *words) match {
	if proto != "th" && proto != p.Proto {
		return no
	}
	switch w.next() {
	case "dport":
		return value(w, func(v string) match { return port(p.Port, v) })
	case "sport":
		return value(w, func(v string) match { return port(sourcePort, v) })
	}
	value(w, func(string) match { return maybe })
	return maybe
}

// conntrack: the packet is new, and nobody redirected it.
func conntrack(w *words) match {
	switch w.next() {
	case "state":
		return value(w, func(v string) match { return is(slices.Contains(strings.Split(v, ","), "new")) })
	case "status":
		return value(w, func(v string) match { return is(false) })
	case "direction":
		return value(w, func(v string) match { return is(v == "original") })
	}
	value(w, func(string) match { return maybe })
	return maybe
}

// route reads fib expressions: at the input hook the destination is local, elsewhere it is not.
func (p Packet) route(w *words) match {
	what := w.next()
	for len(w.list) > 1 && w.list[0] == "." {
		w.list = w.list[2:]
	}
	if kind := w.next(); what != "daddr" || kind != "type" {
		value(w, func(string) match { return maybe })
		return maybe
	}
	want := "unicast"
	if p.Hook == Input {
		want = "local"
	}
	return value(w, func(v string) match { return is(v == want) })
}

// extension is a match or a target of iptables that nft does not translate.
func extension(w *words) match {
	kind, name := w.next(), strings.Trim(w.next(), `"`)
	if kind == "match" && name == "comment" || kind == "target" && (name == "LOG" || name == "NFLOG") {
		return yes
	}
	return maybe
}

// value reads [!=] VALUE or { VALUE, … } and asks about each.
func value(w *words, ask func(string) match) match {
	inverted := false
	if len(w.list) > 0 && (w.list[0] == "!=" || w.list[0] == "==") {
		inverted = w.next() == "!="
	}
	text := w.next()
	out := no
	switch {
	case text == "vmap":
		w.mapped = true
		out = mapped(w.next(), ask)
	case text == "" || strings.HasPrefix(text, "@") || text == "&" || text == "<" || text == ">" || text == "<=" ||
		text == ">=":
		out = maybe
		if text == "&" || text == "<" || text == ">" || text == "<=" || text == ">=" {
			w.operands()
		}
	case strings.HasPrefix(text, "{"):
		for v := range strings.SplitSeq(strings.Trim(text, "{} "), ",") {
			out = min(out, ask(strings.Trim(strings.TrimSpace(v), `"`)))
		}
	default:
		out = ask(strings.Trim(text, `"`))
	}
	if inverted {
		out = no - out
	}
	return out
}

// mapped reads { VALUE : VERDICT, … }: which verdict a value has is not followed.
func mapped(text string, ask func(string) match) match {
	out := no
	for pair := range strings.SplitSeq(strings.Trim(text, "{} "), ",") {
		key, _, _ := strings.Cut(pair, " : ")
		if ask(strings.Trim(strings.TrimSpace(key), `"`)) != no {
			out = maybe
		}
	}
	return out
}

// operands skips what is compared with.
func (w *words) operands() {
	w.next()
	if len(w.list) > 1 && (w.list[0] == "==" || w.list[0] == "!=") {
		w.list = w.list[2:]
	}
}

func is(b bool) match {
	if b {
		return yes
	}
	return no
}

// named compares names of interfaces, where a star at the end stands for anything.
func named(name, pattern string) match {
	if begin, wild := strings.CutSuffix(pattern, "*"); wild {
		return is(name != "" && strings.HasPrefix(name, begin))
	}
	return is(name == pattern)
}

func within(a netip.Addr, text string) match {
	if !a.IsValid() {
		return maybe
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return is(p.Contains(a))
	}
	if one, err := netip.ParseAddr(text); err == nil {
		return is(one == a)
	}
	first, last, _ := strings.Cut(text, "-")
	from, err := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	if err != nil || err2 != nil {
		return maybe
	}
	return is(from.Compare(a) <= 0 && a.Compare(to) <= 0)
}

func port(n int, text string) match {
	first, last, ranged := strings.Cut(text, "-")
	if !ranged {
		last = first
	}
	from, err := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if err != nil || err2 != nil {
		return maybe
	}
	return is(from <= n && n <= to)
}
