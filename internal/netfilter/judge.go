package netfilter

import (
	"net/netip"
	"strings"
)

// The hooks that a packet to or through this machine passes.
const (
	Input   = "input"
	Forward = "forward"
)

// Packet is the first IPv4 packet of a connection, at one hook.
type Packet struct {
	Hook                string
	In, Out             string // interfaces; Out is empty at Input
	Source, Destination netip.Addr
	Proto               string // tcp or udp
	Port                int    // of the destination
}

// Block is where a packet ends.
type Block struct {
	Family, Table string
	Chain         string // the chain with the rule, or whose policy it is
	Base          string // the chain at the hook
	Rule          string // empty: no rule, but the policy
}

// String is the place as people look it up with nft list chain.
func (b Block) String() string {
	place := "chain " + b.Chain + " of table " + b.Family + " " + b.Table
	if b.Rule == "" {
		return place + " has policy drop, and no rule accepts it"
	}
	return place + " has the rule " + b.Rule
}

// Dropped is the first chain of the machine that surely drops the packet, leaving out tables whose names begin with one
// of the prefixes; false: there is none. A rule that is not understood and may accept it means that none does for sure.
func (r Ruleset) Dropped(p Packet, except ...string) (Block, bool) {
	for _, t := range r.tables {
		if t.family != "ip" && t.family != "inet" || hasPrefix(t.name, except) {
			continue
		}
		for _, name := range t.order {
			c := t.chains[name]
			if c.kind != "filter" || c.hook != p.Hook {
				continue
			}
			j := judge{table: t, packet: p}
			end, at, rule := j.walk(name, 0)
			if end == passed && c.policy == "drop" {
				end, at, rule = dropped, name, ""
			}
			if end == dropped && !j.doubt {
				return Block{t.family, t.name, at, name, rule}, true
			}
		}
	}
	return Block{}, false
}

func hasPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// ending is what became of a packet in a chain.
type ending int

const (
	passed ending = iota // nothing: it goes on in the chain that called
	accepted
	dropped
)

type judge struct {
	table  table
	packet Packet
	doubt  bool // a rule that may match would have let it go another way
}

// depthLimit is the kernel's (NFT_JUMP_STACK_SIZE).
const depthLimit = 16

// walk gives what becomes of the packet, in which chain, and by which rule.
func (j *judge) walk(name string, depth int) (end ending, at, rule string) {
	c := j.table.chains[name]
	if c == nil || depth > depthLimit {
		j.doubt = true
		return passed, "", ""
	}
	for _, text := range c.rules {
		r := j.packet.read(text)
		if r.matches == no {
			continue
		}
		switch end, at, rule := j.follow(r, text, name, depth); {
		case r.matches == maybe:
			j.doubt = j.doubt || end == accepted || r.verdict == "return" || r.verdict == "goto"
		case end != passed:
			return end, at, rule
		case r.verdict == "return" || r.verdict == "goto":
			return passed, "", ""
		}
	}
	return passed, "", ""
}

// follow is what a rule does to a packet that it matches.
func (j *judge) follow(r rule, text, chain string, depth int) (end ending, at, by string) {
	switch r.verdict {
	case "accept":
		return accepted, chain, text
	case "drop":
		return dropped, chain, text
	case "jump", "goto":
		return j.walk(r.target, depth+1)
	}
	return passed, "", ""
}
