package spec

import (
	"cmp"
	"strconv"
	"strings"
)

// Firewall is who a container is on the network, what may reach it, and what it may reach. Of the rules the first that
// fits decides; what none fits stays outside, and is let out. Its identity is enforced whatever the rules: frames from
// it carry its MAC and its addresses, and frames to it are for these.
type Firewall struct {
	ID      string `json:"id"`
	Off     bool   `json:"off,omitempty"`    // there is to be none
	Open    bool   `json:"open,omitempty"`   // inbound is not restricted: only the container's identity is enforced
	Port    string `json:"port,omitempty"`   // the hypervisor's end of the container's interface
	Bridge  string `json:"bridge,omitempty"` // that it is plugged into
	Address string `json:"address"`          // the container's own, the only one that it may speak with
	// of IPv6, besides the link-local one; empty: none
	Address6 string `json:"address6,omitempty"`
	// likewise; its link-local address is the link-local one of this MAC. Empty where Proxmox knows it
	MAC   string `json:"mac,omitempty"`
	Rules []Rule `json:"rules,omitempty"`
	Prune bool   `json:"prune,omitempty"` // rules that somebody else wrote go
	// Proxmox, where there is one: its firewall does it, and Port and Bridge are empty.
	Proxmox *Proxmox `json:"proxmox,omitempty"`
}

// Table is the name of a container's tables of nftables. Another root's container of the same id has another interface.
func (f Firewall) Table() string {
	return "phoenix_" + strings.NewReplacer(".", "_", "-", "_").Replace(f.Port)
}

// Advertisements keeps a container without an IPv6 address from answering for the addresses of others: Proxmox's
// filters do not look into a neighbour advertisement. It has an effect where ndp is off, as that would allow them
// before all rules.
func Advertisements() Rule {
	return Rule{Direction: Out, Action: Drop, Proto: "icmpv6", ICMPType: "neighbor-advertisement",
		Comment: "addresses of others"}
}

// FilterMark begins the comment of phoenix's rules in Proxmox's files.
const FilterMark = "phoenix:"

// NodeFirewall is what a Proxmox node's own firewall, which comes with that of its containers, has to let in.
type NodeFirewall struct {
	Rules   []Rule  `json:"rules,omitempty"`
	On      bool    `json:"on,omitempty"` // the switch for the whole cluster is put on
	Proxmox Proxmox `json:"proxmox"`
}

// Directions and actions of a rule.
const (
	In    = "in"
	Out   = "out"
	Group = "group"

	Accept = "ACCEPT"
	Drop   = "DROP"
	Reject = "REJECT"
)

// Rule is one rule of a firewall. An empty field stands for anything. Addresses and ports are as Addresses and Ports
// write them, so that two rules that mean the same are the same.
type Rule struct {
	Direction   string `json:"direction"`
	Action      string `json:"action"` // of a group: its name
	Macro       string `json:"macro,omitempty"`
	Proto       string `json:"proto,omitempty"`
	Source      string `json:"source,omitempty"`
	Dest        string `json:"dest,omitempty"`
	SourcePorts string `json:"source_ports,omitempty"`
	Ports       string `json:"ports,omitempty"`
	ICMPType    string `json:"icmp_type,omitempty"`
	Interface   string `json:"interface,omitempty"`
	Log         string `json:"log,omitempty"`
	Comment     string `json:"comment,omitempty"` // means nothing
}

// Meaning is all that the rule does, in one line for people. Two rules with one meaning are the same.
func (r Rule) Meaning() string {
	parts := []string{r.Direction, r.Action}
	add := func(word, value string) {
		if value != "" {
			parts = append(parts, strings.TrimSpace(word+" "+value))
		}
	}
	add("macro", r.Macro)
	add("", r.Proto)
	add("", r.Ports)
	add("type", r.ICMPType)
	add("from", r.Source)
	add("from port", r.SourcePorts)
	add("to", r.Dest)
	add("on", r.Interface)
	if r.Log != "nolog" {
		add("log", r.Log)
	}
	return strings.Join(parts, " ")
}

// Covers reports whether whatever fits other fits r too, so that behind r other has no effect. Where it is not known
// the answer is no.
func (r Rule) Covers(other Rule) bool {
	same := func(mine, others string) bool { return mine == "" || mine == others }
	return r.Direction == other.Direction && r.Direction != Group && other.Macro == r.Macro &&
		same(r.Proto, other.Proto) && same(r.ICMPType, other.ICMPType) &&
		same(r.Interface, other.Interface) && within(other.Ports, r.Ports, portSpans) &&
		within(other.SourcePorts, r.SourcePorts, portSpans) &&
		within(other.Source, r.Source, addressSpans) && within(other.Dest, r.Dest, addressSpans)
}

// Meets reports whether something may fit both rules. Where it is not known the answer is yes.
func (r Rule) Meets(other Rule) bool {
	apart := func(a, b string) bool { return a != "" && b != "" && a != b }
	return r.Direction == other.Direction && !apart(r.Proto, other.Proto) && !apart(r.ICMPType, other.ICMPType) &&
		touch(other.Ports, r.Ports, portSpans) && touch(other.Source, r.Source, addressSpans) &&
		touch(other.Dest, r.Dest, addressSpans)
}

// Verdict is what the rules do with the first packet of a connection; Drop where none fits that comes in, Accept where
// none fits that goes out. False: nobody can tell, as one of the rules before is Proxmox's to understand.
func (f Firewall) Verdict(direction, proto, from, to string, port int) (action string, known bool) {
	asked := Rule{Direction: direction, Proto: proto, Source: from, Dest: to, Ports: strconv.Itoa(port)}
	for _, r := range f.Rules {
		r.Interface = "" // a container has one
		if r.Direction == Group || r.Macro != "" || r.SourcePorts != "" || !readable(r.Source) || !readable(r.Dest) {
			if r.Direction == Group || r.Meets(asked) {
				return "", false
			}
			continue
		}
		if r.ICMPType == "" && r.Covers(asked) {
			return r.Action, true
		}
	}
	return map[string]string{In: Drop, Out: Accept}[cmp.Or(direction, In)], true
}

func readable(addresses string) bool {
	_, err := addressSpans(addresses)
	return addresses == "" || err == nil
}

// FilterOn reads from the text of one of Proxmox's firewall files whether that firewall is on.
func FilterOn(text string) bool { return FilterOption(text, "enable") == "1" }

// FilterOption is the value of an option in one of Proxmox's firewall files, as its own parser reads it: a line with
// anything else in it, such as a comment or a blank before the colon, is left out. Of several lines the last counts.
func FilterOption(text, key string) (value string) {
	options := false
	for line := range strings.Lines(text) {
		line = strings.Trim(line, " \t\r\n")
		if strings.HasPrefix(line, "[") {
			options = strings.EqualFold(line, "[options]")
		}
		name, v, ok := strings.Cut(line, ":")
		if v = strings.TrimSpace(v); ok && options && strings.EqualFold(name, key) && !strings.ContainsAny(v, " \t#") {
			value = v
		}
	}
	return value
}

// Restricts reports whether the rules keep anybody out.
func (f Firewall) Restricts() bool { return !f.Off && !f.Open }
