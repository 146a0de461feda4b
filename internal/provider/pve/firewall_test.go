package pve_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pve"
)

func (n *node) firewall() spec.Firewall {
	p := n.place()
	return spec.Firewall{ID: "103", Address: "10.0.0.10", Proxmox: &p, Rules: []spec.Rule{
		spec.Advertisements(),
		{Direction: "in", Action: "ACCEPT", Proto: "tcp", Ports: "9000", Source: "10.0.0.12,10.0.0.153",
			Comment: "clients of the CA"},
		{Direction: "in", Action: "ACCEPT", Macro: "SSH", Source: "+admins", Interface: "net0", Log: "info"},
		{Direction: "in", Action: "DROP", Proto: "icmp", ICMPType: "echo-request", Comment: "no #ping"},
		{Direction: "group", Action: "ours", Interface: "net0"},
		{Direction: "out", Action: "REJECT", Proto: "udp", Ports: "53,5353:5355", SourcePorts: "1024:65535",
			Dest: "10.0.0.13"},
	}}
}

func (n *node) firewallThing(s spec.Firewall) thing {
	return thing{n, pve.NewFirewall(), asObject(n.t, spec.KindFirewall, s.ID, s)}
}

const firewallFile = `[OPTIONS]

enable: 1
policy_in: DROP
ipfilter: 1
macfilter: 1
dhcp: 0
ndp: 0
radv: 0
layer2_protocols: ARP

[RULES]

OUT DROP -p icmpv6 -icmp-type neighbor-advertisement # phoenix: addresses of others
IN ACCEPT -source 10.0.0.12,10.0.0.153 -p tcp -dport 9000 # phoenix: clients of the CA
IN SSH(ACCEPT) -i net0 -source +admins -log info # phoenix:
IN DROP -p icmp -icmp-type echo-request # phoenix: no ping
GROUP ours -i net0 # phoenix:
OUT REJECT -dest 10.0.0.13 -p udp -dport 53,5353:5355 -sport 1024:65535 # phoenix:
`

func TestFirewallConformance(t *testing.T) {
	var n *node
	change := func(old, new string) func(*testing.T, host.Host, object.Object) {
		return func(t *testing.T, _ host.Host, _ object.Object) {
			text := n.read("pve/firewall/103.fw")
			if !strings.Contains(text, old) {
				t.Fatalf("no %q in\n%s", old, text)
			}
			n.write(strings.Replace(text, old, new, 1), "pve/firewall/103.fw")
		}
	}
	conformance.Run(t, conformance.Case{
		Driver: pve.NewFirewall(),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			n = newNode(t)
			return n.host, n.firewallThing(n.firewall()).o
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"switched off":   change("enable: 1", "enable: 0"),
			"another policy": change("policy_in: DROP", "policy_in: ACCEPT"),
			"anybody's name": change("ipfilter: 1", "ipfilter: 0"),
			"any MAC":        change("macfilter: 1", "macfilter: 0"),
			"DHCP":           change("dhcp: 0\n", ""),
			"ND":             change("ndp: 0\n", "ndp: 1\n"),
			"a router":       change("radv: 0", "radv: 1"),
			"VLAN tags":      change("layer2_protocols: ARP\n", ""),
			"a bad value":    change("layer2_protocols: ARP", "layer2_protocols: ARP,IPv4,IPv6"),
			"no advertisers": change("OUT DROP -p icmpv6 -icmp-type neighbor-advertisement # phoenix: addresses of "+
				"others\n", ""),
			"a rule off":   change("IN ACCEPT -source", "|IN ACCEPT -source"),
			"a wider rule": change("-source 10.0.0.12,10.0.0.153 ", ""),
			"another order": change("IN DROP -p icmp -icmp-type echo-request # phoenix: no ping\nGROUP ours -i net0 "+
				"# phoenix:\n", "GROUP ours -i net0 # phoenix:\nIN DROP -p icmp -icmp-type echo-request # phoenix: "+
				"no ping\n"),
			"a rule twice": change("GROUP ours -i net0 # phoenix:\n", "GROUP ours -i net0 # phoenix:\nGROUP ours "+
				"-i net0 # phoenix:\n"),
			"a lost section": change("[RULES]", "[IPSET x]"),
			"a lost file": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, os.Remove(n.path("pve/firewall/103.fw")))
			},
		},
	})
}

func TestNodeConformance(t *testing.T) {
	var n *node
	conformance.Run(t, conformance.Case{
		Driver: pve.NewNode(),
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			n = newNode(t)
			n.write("[OPTIONS]\nenable: 0\nlog_ratelimit: enable=1\n", "pve/firewall/cluster.fw")
			return n.host, asObject(t, spec.KindNode, "firewall",
				spec.NodeFirewall{On: true, Proxmox: n.place(), Rules: []spec.Rule{
					{Direction: "in", Action: "ACCEPT", Proto: "udp", Ports: "53", Source: "10.0.0.0/24",
						Comment: "names for the containers"}}})
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"switched off": func(*testing.T, host.Host, object.Object) {
				n.write("[OPTIONS]\nenable: 0\n", "pve/firewall/cluster.fw")
			},
			"a lost rule": func(*testing.T, host.Host, object.Object) {
				n.write("[RULES]\nIN ACCEPT -p tcp -dport 22\n", "pve/local/host.fw")
			},
		},
	})
}

// The file is what Proxmox itself would write, and a second look changes nothing, whoever writes it in whichever order.
func TestFirewallFile(t *testing.T) {
	n := newNode(t)
	x := n.firewallThing(n.firewall())
	must(t, x.try())
	if got := n.read("pve/firewall/103.fw"); got != firewallFile {
		t.Errorf("got\n%s\nwant\n%s", got, firewallFile)
	}
	n.write("[OPTIONS]\nlayer2_protocols: ARP\nndp: 0\ndhcp: 0\nipfilter: 1\nenable: 1\n\n[RULES]\n\n"+
		"OUT DROP -icmp-type neighbor-advertisement -p icmpv6 # phoenix:\n"+
		"IN ACCEPT -p tcp -dport 9000 -source 10.0.0.153/32,10.0.0.12 # phoenix: another word\n"+
		strings.Join(strings.SplitAfter(firewallFile, "\n")[15:], ""), "pve/firewall/103.fw")
	if d := x.delta(); !d.Empty() {
		t.Errorf("the same meaning is a difference: %+v", d)
	}
}

// What others wrote stays where it is, byte for byte, but for what says the same; with prune their rules go.
func TestFirewallOfOthers(t *testing.T) {
	const options = "# of a person\n[OPTIONS]\ndhcp: 1\n"
	const rest = "\n[IPSET admins] # of us\n10.0.0.5 # me\n\n[ALIASES]\nhome 10.0.0.7\n"
	const others = "|IN DROP -p udp -dport 53 -log info\nnonsense\n"
	n := newNode(t)
	n.write(options+rest+"[RULES]\nIN DROP -source 10.0.0.66 # bad\n"+others+
		"IN ACCEPT -source 10.0.0.153,10.0.0.12 -p tcp -dport 9000 # mine", "pve/firewall/103.fw")
	s := n.firewall()
	s.Rules = s.Rules[1:2]
	x := n.firewallThing(s)
	if d := x.delta(); !slices.Contains(d.Fields,
		plan.Field{Path: "rule of another", Have: "in ACCEPT tcp 9000 from 10.0.0.12,10.0.0.153"}) {
		t.Errorf("what is repeated is not told: %+v", d)
	}
	must(t, x.try())
	ours := "IN ACCEPT -source 10.0.0.12,10.0.0.153 -p tcp -dport 9000 # phoenix: clients of the CA\n"
	want := strings.Replace(options, "dhcp: 1\n", "", 1) + "enable: 1\npolicy_in: DROP\nipfilter: 1\nmacfilter: " +
		"1\ndhcp: 0\nndp: 0\nradv: 0\nlayer2_protocols: ARP\n" + rest + "[RULES]\n" + ours +
		"IN DROP -source 10.0.0.66 # bad\n" + others
	if got := n.read("pve/firewall/103.fw"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if d := x.delta(); !d.Empty() {
		t.Errorf("again: %+v", d)
	}
	// A person moves one up; there it stays when phoenix's change.
	n.write(strings.Replace(want, ours+"IN DROP -source 10.0.0.66 # bad\n", "IN DROP -source 10.0.0.66 # bad\n"+ours,
		1), "pve/firewall/103.fw")
	s.Rules[0].Ports = "9001"
	n.firewallThing(s).make2(t)
	if got := n.read("pve/firewall/103.fw"); !strings.Contains(got, "# bad\nIN ACCEPT -source 10.0.0.12,10.0.0.153 "+
		"-p tcp -dport 9001 #") {
		t.Errorf("got\n%s", got)
	}
	s.Prune = true
	n.firewallThing(s).make2(t)
	if got := n.read("pve/firewall/103.fw"); strings.Contains(got, "bad") || strings.Contains(got, "|IN") ||
		!strings.Contains(got, "nonsense") || !strings.Contains(got, rest) {
		t.Errorf("pruned:\n%s", got)
	}
	s.Off, s.Rules, s.Prune = true, nil, false
	n.firewallThing(s).make2(t)
	if got := n.read("pve/firewall/103.fw"); strings.Contains(got, "phoenix:") ||
		!strings.Contains(got, "enable: 0\n") || strings.Contains(got, "ipfilter") {
		t.Errorf("off:\n%s", got)
	}
}

// identity is the spec of a container that asks for no firewall.
func (n *node) identity() spec.Firewall {
	s := n.firewall()
	s.Open, s.Rules = true, []spec.Rule{spec.Advertisements()}
	return s
}

// A container that asks for no firewall is kept to its own addresses, and nothing else changes: what others wrote
// without effect stays without, and a firewall of somebody else's stays as closed as it is.
func TestFirewallIdentity(t *testing.T) {
	const identity = "ipfilter: 1\nmacfilter: 1\ndhcp: 0\nndp: 0\nradv: 0\nlayer2_protocols: ARP\n"
	const advertisers = "OUT DROP -p icmpv6 -icmp-type neighbor-advertisement # phoenix: addresses of others\n"
	const all = "IN ACCEPT # phoenix: no firewall is asked for: what follows has no effect\nOUT ACCEPT # phoenix: no " +
		"firewall is asked for: what follows has no effect\n"
	for name, c := range map[string]struct{ before, after string }{
		"none": {"", "[OPTIONS]\n\nenable: 1\npolicy_in: ACCEPT\n" + identity + "\n[RULES]\n\n" +
			advertisers},
		"off, with rules": {"[RULES]\nIN DROP -p tcp\n", "[OPTIONS]\n\nenable: 1\npolicy_in: ACCEPT\n" + identity +
			"\n[RULES]\n" + advertisers + all + "IN DROP -p tcp\n"},
		"somebody's": {"[OPTIONS]\nenable: 1\n[RULES]\nIN ACCEPT -p tcp\n",
			"[OPTIONS]\nenable: 1\n" + identity + "[RULES]\n" + advertisers + "IN ACCEPT -p tcp\n"},
		"phoenix's of once": {"[OPTIONS]\nenable: 1\npolicy_in: DROP\n[RULES]\nIN ACCEPT -p tcp # phoenix: x\n",
			"[OPTIONS]\nenable: 1\npolicy_in: ACCEPT\n" + identity + "[RULES]\n" + advertisers},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if c.before != "" {
				n.write(c.before, "pve/firewall/103.fw")
			}
			n.firewallThing(n.identity()).make2(t)
			if got := n.read("pve/firewall/103.fw"); got != c.after {
				t.Errorf("got\n%s\nwant\n%s", got, c.after)
			}
			if n.firewallThing(n.firewall()).make2(t); !strings.Contains(n.read("pve/firewall/103.fw"),
				"policy_in: DROP") {
				t.Error("a firewall that is asked for later is not closed")
			}
		})
	}
}

// Proxmox itself understands each line, and what it makes of the file keeps the container to its own addresses.
func TestFirewallCompiles(t *testing.T) {
	for name, s := range map[string]func(*node) spec.Firewall{
		"rules": (*node).firewall, "identity only": (*node).identity} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("net0: name=eth0,bridge=vmbr0,firewall=1,hwaddr=52:54:00:AA:BB:CA,ip=10.0.0.10/24,type=veth\n",
				"pve/lxc/103.conf")
			must(t, n.firewallThing(s(n)).try())
			out := n.tool("pve-firewall", "compile")
			for _, want := range []string{"-OUT-PROTO -p ARP -j RETURN", "-OUT-PROTO -j DROP",
				"-OUT-ARP --arp-ip-src 10.0.0.10", "-OUT -s ! 52:54:00:aa:bb:ca -j DROP",
				"--icmpv6-type neighbor-advertisement -j DROP"} {
				if !strings.Contains(strings.ReplaceAll(out, "-OUT-ARP -p ARP --", "-OUT-ARP --"), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			for _, bad := range []string{"(line ", "PVEFW-SET-ACCEPT-MARK"} {
				if strings.Contains(out, bad) {
					t.Errorf("%q in\n%s", bad, out)
				}
			}
		})
	}
}

// make2 applies and wants it to be true then.
func (x thing) make2(t *testing.T) {
	t.Helper()
	must(t, x.try())
	if d := x.delta(); !d.Empty() {
		t.Errorf("%s is not true: %+v", x.o.Address, d)
	}
}

// Without quorum, or while another changes the file, nothing is written.
func TestFirewallIsWrittenWithCare(t *testing.T) {
	n := newNode(t)
	x := n.firewallThing(n.firewall())
	n.quorum(false)
	if err := x.try(); err == nil || !strings.Contains(err.Error(), "quorum") {
		t.Errorf("without quorum: %v", err)
	}
	if _, err := os.Stat(n.path("pve/firewall/103.fw")); err == nil {
		t.Error("it was written")
	}
	n.quorum(true)
	if calls := n.calls(""); len(calls) > 0 {
		t.Errorf("called %q", calls)
	}
}

func TestFirewallDecode(t *testing.T) {
	n := newNode(t)
	for name, change := range map[string]func(*spec.Firewall){
		"":              func(*spec.Firewall) {},
		"a line break":  func(s *spec.Firewall) { s.Rules[0].Comment = "x\nIN ACCEPT" },
		"a blank":       func(s *spec.Firewall) { s.Rules[0].Source = "10.0.0.1 -p tcp" },
		"an odd action": func(s *spec.Firewall) { s.Rules[0].Action = "" },
		"no place":      func(s *spec.Firewall) { s.Proxmox = nil },
		"no id":         func(s *spec.Firewall) { s.ID = "../x" },
	} {
		s := n.firewall()
		change(&s)
		if got := pve.NewFirewall().Decode(n.firewallThing(s).o.Spec); got.HasErrors() != (name != "") {
			t.Errorf("%s: %v", name, got)
		}
	}
}
