package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// version is counted up when other tables are made of the same spec.
const version = "2"

// mark is the bit that tells, between two hooks, that a packet belongs to a connection that somebody was let make. It
// goes away with the packet's way into another network namespace, and before the hypervisor looks for a route.
const mark = "0x08000000"

func table(s spec.Firewall) string { return s.Table() }

// made is the digest of all that the tables are made from.
func made(s spec.Firewall) string {
	s.Prune = false
	raw, _ := json.Marshal(s) // plain data
	return digest(version + string(raw))
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:32]
}

// render is what nft is given: all tables of the container go, and come, in one step. A kernel that follows connections
// on bridges by itself (nf_conntrack_bridge) is native; else br_netfilter hands the bridge's packets to the hooks of
// IP, which follow them and leave a mark. Without rules (Open) only the identity is left.
func render(s spec.Firewall, native bool) string {
	var b strings.Builder
	name := table(s)
	for _, family := range []string{"bridge", "inet"} {
		fmt.Fprintf(&b, "table %s %s\ndelete table %s %s\n", family, name, family, name)
	}
	fmt.Fprintf(&b, "table bridge %s {\n\tcomment \"phoenix: firewall/%s %s %s\"\n", name, s.ID, made(s),
		identityDigest(s))
	identity(&b, s)
	if !s.Open {
		filters(&b, s, native)
	}
	b.WriteString("}\n")
	if !s.Open && !native {
		tracking(&b, s)
	}
	return b.String()
}

// filters are the chains of the rules. They come after those of the identity, which a packet passes first.
func filters(b *strings.Builder, s spec.Firewall, native bool) {
	known := fmt.Sprintf("meta mark & %s == %s accept", mark, mark)
	if native {
		known = "ct state established,related accept"
	}
	chain(b, "to_container", known, "ether type arp accept", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert "+
		"} accept",
		rules(s, spec.In), "drop")
	chain(b, "from_container", "ether type arp accept", known, rules(s, spec.Out), "accept")
	port := `"` + s.Port + `"`
	chain(b, "bridged", "type filter hook forward priority 0; policy accept;", "oifname "+port+" jump to_container",
		"iifname "+port+" jump from_container")
	chain(b, "sent", "type filter hook output priority 0; policy accept;", "oifname "+port+" jump to_container")
	chain(b, "received", "type filter hook input priority 0; policy accept;", "iifname "+port+" jump from_container")
	if !native { // routing does not see the mark
		chain(b, "cleared", "type filter hook input priority 10; policy accept;",
			"iifname "+port+" meta mark set meta mark & 0xf7ffffff")
	}
}

// tracking marks what belongs to a connection on its way through the bridge: before it leaves, and, for what a
// container sends, as it comes in.
func tracking(b *strings.Builder, s spec.Firewall) {
	fmt.Fprintf(b, "table inet %s {\n", table(s))
	bridge, set := `"`+s.Bridge+`"`, " ct state established,related meta mark set meta mark | "+mark
	chain(b, "bridged", "type filter hook forward priority 0; policy accept;", "oifname "+bridge+set)
	chain(b, "sent", "type filter hook output priority 0; policy accept;", "oifname "+bridge+set)
	chain(b, "received", "type filter hook prerouting priority 0; policy accept;", "iifname "+bridge+set)
	b.WriteString("}\n")
}

func chain(b *strings.Builder, name string, lines ...string) {
	fmt.Fprintf(b, "\tchain %s {\n", name)
	for _, l := range lines {
		if l != "" {
			fmt.Fprintf(b, "\t\t%s\n", strings.TrimSuffix(strings.ReplaceAll(l, "\n", "\n\t\t"), "\n\t\t"))
		}
	}
	b.WriteString("\t}\n")
}

// rules are those of one direction, a line each.
func rules(s spec.Firewall, direction string) string {
	var b strings.Builder
	for _, r := range s.Rules {
		if r.Direction != direction {
			continue
		}
		parts := append(match(r), logged(s, r)...)
		parts = append(parts, strings.ToLower(r.Action), `comment "`+note(r)+`"`)
		b.WriteString(strings.Join(parts, " ") + "\n")
	}
	return b.String()
}

func match(r spec.Rule) (out []string) {
	add := func(what, list string) {
		list = strings.ReplaceAll(list, ":", "-") // of ports
		if strings.Contains(list, ",") {
			list = "{ " + strings.ReplaceAll(list, ",", ", ") + " }"
		}
		if list != "" {
			out = append(out, what+" "+list)
		}
	}
	add("ip saddr", r.Source)
	add("ip daddr", r.Dest)
	family := map[string]string{"icmp": "icmp", "ipv6-icmp": "icmpv6"}[r.Proto]
	switch {
	case r.Ports != "" || r.SourcePorts != "":
		add(r.Proto+" sport", r.SourcePorts)
		add(r.Proto+" dport", r.Ports)
	case r.ICMPType != "" && family != "":
		add(family+" type", r.ICMPType)
	default:
		add("meta l4proto", r.Proto)
	}
	return out
}

// logged is the part of a rule that writes into the kernel's log, ten lines a second at most.
func logged(s spec.Firewall, r spec.Rule) []string {
	level, known := map[string]string{"emerg": "emerg", "alert": "alert", "crit": "crit", "err": "err",
		"warning": "warn", "notice": "notice", "info": "info", "debug": "debug"}[r.Log]
	if !known {
		return nil
	}
	return []string{fmt.Sprintf(`log prefix "phoenix %s %s %s: " level %s`, s.ID, r.Direction, r.Action, level)}
}
