package main

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// guestOption is what PVE::Firewall takes in [OPTIONS] of a guest's file. Any other line is left out, whole.
var guestOption = regexp.MustCompile(
	`(?i)^(?:(enable|dhcp|ndp|radv|macfilter|ipfilter|ips):\s*([01])|(policy_in|policy_out):\s*(ACCEPT|DROP|REJECT)|` +
		`(log_level_in|log_level_out):\s*(emerg|alert|crit|err|warning|notice|info|debug|nolog)?|(ips_queues):\s*(\d+(?::\d+)?)|` +
		`(layer2_protocols):\s*(\S+))\s*$`)

// ethertypes are those of /etc/ethertypes that its parser takes: the numbers there are hexadecimal, and only those of
// decimal digits are read. IPv6 is 86DD.
var ethertypes = []string{"IPv4", "X25", "ARP", "802_1Q", "IPX", "PPP", "LOOP"}

// icmpTypes are those that one of the tests may use, of icmp and of icmpv6.
var icmpTypes = map[string][]string{
	"icmp": {"echo-request", "echo-reply", "redirect", "any"},
	"icmpv6": {"echo-request", "echo-reply", "router-solicitation", "router-advertisement", "neighbor-solicitation",
		"neighbour-solicitation",
		"neighbor-advertisement", "neighbour-advertisement", "redirect"},
}

// guestFilter is a guest's firewall file as it is understood.
type guestFilter struct {
	options map[string]string
	six     []string // rules of ip6tables, OUT only
	in      []string // rules of iptables, IN only
	ipset   []string // ipfilter-net0
}

// warned is what PVE::Firewall says of a line on standard error.
func warned(file string, number int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s (line %d): "+format+"\n", append([]any{file, number}, args...)...)
}

func (b base) guestFilter(id string) guestFilter {
	f := guestFilter{options: map[string]string{}}
	file := b.path("pve", "firewall", id+".fw")
	raw, err := os.ReadFile(file)
	if err != nil {
		return f
	}
	section := ""
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.Trim(line, " \t\r")
		switch low := strings.ToLower(line); {
		case line == "" || strings.HasPrefix(line, "#"):
		case low == "[options]", low == "[rules]", low == "[aliases]":
			section = strings.Trim(low, "[]")
		case strings.HasPrefix(low, "[ipset ") || strings.HasPrefix(low, "[group "):
			section, _, _ = strings.Cut(strings.Trim(low, "[]"), "]")
		case section == "":
			warned(file, i+1, "skip line - no section")
		case section == "options":
			f.option(file, i+1, line)
		case section == "rules":
			f.rule(file, i+1, line)
		case section == "ipset ipfilter-net0":
			entry, _, _ := strings.Cut(line, "#")
			f.ipset = append(f.ipset, strings.TrimSpace(entry))
		}
	}
	return f
}

func (f *guestFilter) option(file string, number int, line string) {
	m := guestOption.FindStringSubmatch(line)
	if m == nil {
		warned(file, number, "can't parse option '%s'", line)
		return
	}
	for i := 1; i < len(m); i += 2 {
		if m[i] == "" {
			continue
		}
		key := strings.ToLower(m[i])
		if key == "layer2_protocols" {
			for name := range strings.SplitSeq(m[i+1], ",") {
				if !slices.Contains(ethertypes, name) {
					warned(file, number, "unknown ethernet protocol type: %s", name)
					return
				}
			}
		}
		f.options[key] = m[i+1]
	}
}

var ruleOption = regexp.MustCompile(`^--?([a-z-]+) (\S+)\s*`)

func (f *guestFilter) rule(file string, number int, line string) {
	line, _, _ = strings.Cut(line, "#")
	line = strings.TrimSpace(line)
	enabled := !strings.HasPrefix(line, "|")
	words := regexp.MustCompile(`^(\S+)\s+(\S+)\s*`).FindStringSubmatch(strings.TrimPrefix(line, "|"))
	if words == nil {
		warned(file, number, "unable to parse rule: %s", line)
		return
	}
	rest, of := strings.TrimPrefix(line, "|")[len(words[0]):], map[string]string{}
	for rest != "" {
		m := ruleOption.FindStringSubmatch(rest + " ")
		if m == nil ||
			!slices.Contains([]string{"i", "p", "proto", "dport", "sport", "source", "dest", "log", "icmp-type"},
				m[1]) {
			warned(file, number, "unable to parse rule parameters: %s", rest)
			return
		}
		of[m[1]], rest = m[2], strings.TrimSpace(rest[min(len(m[0]), len(rest)):])
	}
	six := of["p"] == "icmpv6" || of["p"] == "ipv6-icmp"
	kind := of["p"]
	if six {
		kind = "icmpv6"
	}
	if t := of["icmp-type"]; t != "" && !slices.Contains(icmpTypes[kind], t) {
		fmt.Fprintf(os.Stderr, "%s (line %d) - errors in rule parameters: %s\n  icmp-type: invalid icmp-type '%s' "+
			"for proto '%s'\n", file, number, line, t, of["p"])
		return
	}
	if enabled && strings.EqualFold(words[1], "in") && !six {
		text := ""
		for _, o := range [][2]string{{"-s", "source"}, {"-d", "dest"}, {"-p", "p"}, {"--dport", "dport"}} {
			if v := of[o[1]]; v != "" {
				text += o[0] + " " + v + " "
			}
		}
		f.in = append(f.in, text+"-j "+words[2])
	}
	if enabled && strings.EqualFold(words[1], "out") && six {
		f.six = append(f.six, fmt.Sprintf("-p icmpv6 -m icmpv6 --icmpv6-type %s -j %s", of["icmp-type"], words[2]))
	}
}

// chain is one of a rule set.
type chain struct {
	name  string
	rules []string
}

// guestChains are those of a guest's port: of iptables, of ip6tables, and of ebtables, as far as they keep it to its
// own addresses.
func (b base) guestChains(id string) (four, six, two []chain) {
	conf, err := b.load(id)
	if err != nil {
		return nil, nil, nil
	}
	net, f := parse(conf.keys["net0"], ""), b.guestFilter(id)
	if conf.keys["net0"] == "" || net.of["firewall"] != "1" || f.options["enable"] != "1" {
		return nil, nil, nil
	}
	port, mac := "veth"+id+"i0", strings.ToLower(net.of["hwaddr"])
	out := chain{name: port + "-OUT"}
	add := func(c *chain, when bool, format string, args ...any) {
		if when {
			c.rules = append(c.rules, fmt.Sprintf("-A "+c.name+" "+format, args...))
		}
	}
	add(&out, f.options["dhcp"] != "0", "-p udp --sport 546 --dport 547 -g PVEFW-SET-ACCEPT-MARK")
	add(&out, f.options["macfilter"] != "0", "-m mac ! --mac-source %s -j DROP", mac)
	add(&out, f.options["radv"] != "1", "-p icmpv6 --icmpv6-type router-advertisement -j DROP")
	add(&out, f.options["ipfilter"] == "1", "-m set ! --match-set PVEFW-%s-ipfilter-net0-v6 src -j DROP", id)
	for _, kind := range []string{"router-solicitation", "neighbor-solicitation", "neighbor-advertisement"} {
		add(&out, f.options["ndp"] != "0", "-p icmpv6 --icmpv6-type %s -g PVEFW-SET-ACCEPT-MARK", kind)
	}
	for _, r := range f.six {
		add(&out, true, "%s", r)
	}
	six = append(six, out)

	in, from := chain{name: port + "-IN"}, chain{name: port + "-OUT"}
	add(&in, f.options["dhcp"] != "0", "-p udp --sport 67 --dport 68 -j ACCEPT")
	for _, r := range f.in {
		add(&in, true, "%s", r)
	}
	closed := f.options["policy_in"] != "ACCEPT"
	add(&in, closed, "-j PVEFW-Drop")
	add(&in, closed, "-j DROP")
	add(&in, !closed, "-j ACCEPT")
	add(&from, f.options["dhcp"] != "0", "-p udp --sport 68 --dport 67 -g PVEFW-SET-ACCEPT-MARK")
	add(&from, f.options["macfilter"] != "0", "-m mac ! --mac-source %s -j DROP", mac)
	add(&from, f.options["ipfilter"] == "1", "-m set ! --match-set PVEFW-%s-ipfilter-net0-v4 src -j DROP", id)
	four = append(four, in, from)

	frames, arp, proto := chain{name: port + "-OUT"}, chain{name: port + "-OUT-ARP"}, chain{name: port + "-OUT-PROTO"}
	own := f.ipset
	if address, _, _ := strings.Cut(net.of["ip"], "/"); address != "dhcp" && address != "" &&
		f.options["ipfilter"] == "1" {
		own = append(own, address)
	}
	protocols := f.options["layer2_protocols"]
	add(&frames, f.options["macfilter"] != "0", "-s ! %s -j DROP", mac)
	add(&frames, len(own) > 0, "-p ARP -j %s", arp.name)
	add(&frames, protocols != "", "-j %s", proto.name)
	add(&frames, true, "-j ACCEPT")
	two = append(two, frames)
	for _, a := range own {
		add(&arp, true, "-p ARP --arp-ip-src %s -j RETURN", a)
	}
	if len(own) > 0 {
		add(&arp, true, "-j DROP")
		two = append(two, arp)
	}
	for p := range strings.SplitSeq(protocols, ",") {
		add(&proto, protocols != "", "-p %s -j RETURN", p)
	}
	if protocols != "" {
		add(&proto, true, "-j DROP")
		two = append(two, proto)
	}
	return four, six, two
}

// firewall is pve-firewall. The file daemon-down says that its daemon does not run.
func (b base) firewall(args []string) error {
	if len(args) == 0 {
		return short()
	}
	if f := b.faulty("pve-firewall-" + args[0]); f != nil {
		return f.happen()
	}
	cluster := map[string]string{"ebtables": "1"}
	if raw, err := os.ReadFile(b.path("pve", "firewall", "cluster.fw")); err == nil {
		for line := range strings.Lines(string(raw)) {
			if key, value, ok := strings.Cut(line, ":"); ok {
				cluster[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
			}
		}
	}
	switch args[0] {
	case "status":
		state := map[bool]string{true: "enabled", false: "disabled"}[cluster["enable"] == "1"]
		daemon := "running"
		if _, err := os.Stat(b.path("daemon-down")); err == nil {
			daemon = "stopped"
		}
		fmt.Printf("Status: %s/%s\n", state, daemon)
		return nil
	case "compile":
		return b.compile(cluster)
	}
	fmt.Fprintf(os.Stderr, "ERROR: unknown command 'pve-firewall %s'\n", args[0])
	return exitCode(255)
}

// compile prints each chain with the rules that it should have, and whether the kernel has it: while the daemon runs,
// all.
func (b base) compile(cluster map[string]string) error {
	names, _ := filepath.Glob(b.path("pve", "lxc", "*.conf"))
	slices.Sort(names)
	four, six, two := map[string]chain{}, map[string]chain{}, map[string]chain{}
	for _, n := range names {
		f, s, t := b.guestChains(strings.TrimSuffix(filepath.Base(n), ".conf"))
		for _, c := range f {
			four[c.name] = c
		}
		for _, c := range s {
			six[c.name] = c
		}
		for _, c := range t {
			two[c.name] = c
		}
	}
	if cluster["ebtables"] == "0" {
		two = nil
	} else {
		forward := chain{name: "PVEFW-FORWARD",
			rules: []string{"-A PVEFW-FORWARD -p IPv4 -j ACCEPT", "-A PVEFW-FORWARD -p IPv6 -j ACCEPT",
				"-A PVEFW-FORWARD -o fwln+ -j PVEFW-FWBR-OUT"}}
		two[forward.name] = forward
	}
	state := "exists"
	if _, err := os.Stat(b.path("daemon-down")); err == nil || cluster["enable"] != "1" {
		state = "create"
	}
	for _, part := range []struct {
		title  string
		chains map[string]chain
	}{{"ipset", nil}, {"iptables", four}, {"ip6tables", six}, {"ebtables", two}, {"iptables table raw", nil},
		{"ip6tables table raw", nil}} {
		fmt.Printf("%s cmdlist:\n", part.title)
		for _, name := range slices.Sorted(maps.Keys(part.chains)) {
			c := part.chains[name]
			sum := sha1.Sum([]byte(strings.Join(c.rules, "\n")))
			fmt.Printf("%s %s (%s)\n", state, c.name, base64.StdEncoding.EncodeToString(sum[:])[:27])
			for _, r := range c.rules {
				fmt.Printf("\t%s\n", r)
			}
		}
		fmt.Println()
	}
	fmt.Println("detected changes")
	if cluster["enable"] != "1" {
		fmt.Println("firewall disabled")
	}
	return nil
}
