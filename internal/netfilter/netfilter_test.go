package netfilter_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/netfilter"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

func TestMain(m *testing.M) { os.Exit(conformance.Isolate(m)) }

var (
	container = netip.MustParseAddr("10.0.0.101")
	own       = netip.MustParseAddr("10.0.0.13")
	question  = netfilter.Packet{Hook: netfilter.Input, In: "vmbr0", Source: container, Destination: own, Proto: "udp",
		Port: 53}
	between = netfilter.Packet{Hook: netfilter.Forward, In: "vmbr0", Out: "vmbr0", Source: container,
		Destination: netip.MustParseAddr("10.0.0.102"), Proto: "tcp", Port: 443}
	outside = netfilter.Packet{Hook: netfilter.Forward, In: "vmbr0", Out: "eth0", Source: container,
		Destination: netip.MustParseAddr("198.51.100.1"), Proto: "tcp", Port: 443}
)

// in is a chain of a table with one base chain per hook.
func in(hook, policy string, rules ...string) string {
	return "table inet filter {\n\tchain base {\n\t\ttype filter hook " + hook + " priority filter; policy " + policy +
		";\n\t\t" + strings.Join(rules, "\n\t\t") + "\n\t}\n\tchain more {\n\t\taccept\n\t}\n}\n"
}

func listing(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".nft"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What Docker, ufw and firewalld write, as nft lists it.
func TestFirewallsOfOthers(t *testing.T) {
	for _, x := range []struct {
		name, change string // a rule that a person adds, before the line of the chain
		packet       netfilter.Packet
		want         string
	}{
		{"docker", "", question, ""},
		{"docker", "", between, "chain FORWARD of table ip filter has policy drop"},
		{"docker", "", outside, "chain FORWARD of table ip filter has policy drop"},
		{"docker", `chain DOCKER-USER {|iifname "vmbr0" counter accept`, between, ""},
		{"docker", `chain DOCKER-USER {|oifname "vmbr0" counter accept`, outside,
			"chain FORWARD of table ip filter has policy drop"},
		{"ufw", "", question, "chain INPUT of table ip filter has policy drop"},
		{"ufw", "", between, "chain FORWARD of table ip filter has policy drop"},
		{"ufw", `chain ufw-user-input {|iifname "vmbr0" udp dport 53 counter accept`, question, ""},
		{"ufw", `chain ufw-user-input {|iifname "vmbr0" tcp dport 53 counter accept`, question,
			"chain INPUT of table ip filter has policy drop"},
		{"firewalld", "", question, "chain filter_IN_public of table inet firewalld has the rule reject with"},
		{"firewalld", "", between, "chain filter_FWD_public of table inet firewalld has the rule reject with"},
		{"firewalld", "", outside, ""},
		{"firewalld", `chain filter_INPUT_ZONES {|iifname "vmbr0" accept`, question, ""},
	} {
		text := listing(t, x.name)
		if chain, rule, ok := strings.Cut(x.change, "|"); ok {
			text = strings.Replace(text, chain, chain+"\n\t\t"+rule, 1)
		}
		if got := judged(text, x.packet); !strings.HasPrefix(got, x.want) || got != "" && x.want == "" {
			t.Errorf("%s with %q, %s to port %d: %q, want %q", x.name, x.change, x.packet.Hook, x.packet.Port, got, x.want)
		}
	}
}

func judged(text string, p netfilter.Packet) string {
	if b, ok := netfilter.Parse(text).Dropped(p, "phoenix_"); ok {
		return b.String()
	}
	return ""
}

// One rule in a chain that drops, or accepts, what is left.
func TestRules(t *testing.T) {
	for rule, accepts := range map[string]bool{
		"":       false,
		"accept": true, "counter packets 3 bytes 180 accept": true, `log prefix "a { b " level info accept`: true,
		`comment "drop" accept`: true, "ct state new accept": true, "ct state established,related accept": false,
		"ct state { established, related } accept": false, "ct state != invalid accept": true,
		"udp dport 53 accept": true, "udp dport { 53, 67 } accept": true, "udp dport 50-60 accept": true,
		"udp dport != 53 accept": false, "tcp dport 53 accept": false, "th dport 53 accept": true,
		"udp sport 67 udp dport 53 accept":       false,
		"meta l4proto { tcp, udp } accept":       true,
		"meta nfproto ipv6 accept":               false,
		"ip6 saddr fe80::/10 accept":             false,
		"ip saddr 10.0.0.0/24 accept":            true,
		"ip saddr 10.0.0.50-10.0.0.150 accept":   true,
		"ip saddr != 10.0.0.0/24 accept":         false,
		"ip daddr { 10.0.0.1, 10.0.0.2 } accept": false,
		"ip protocol udp accept":                 true,
		`iifname "vmbr*" accept`:                 true, `iifname { "eth0", "vmbr0" } accept`: true, `iifname "eth0" accept`: false,
		"jump more": true, "goto more": true, "fib daddr type local accept": true,
		"fib daddr type broadcast accept": false, "meta pkttype broadcast accept": false,
		"icmp type echo-request accept":                                            false,
		"ct state vmap { established : accept, related : accept, invalid : drop }": false,
		// what may accept it, nobody is blamed for
		"meta mark 0x1 accept": true, "@th,16,16 0x35 accept": true, `xt match "addrtype" accept`: true,
		"ip saddr @friends accept": true, "meta mark & 0xff == 0x1 accept": true,
		`udp dport vmap { 53 : accept, 67 : drop }`: true, "tcp flags & (fin | syn) == syn accept": false,
		"limit rate 3/minute burst 10 packets accept": true,
		// what may drop it makes no difference
		"meta mark 0x1 drop": false, "meta mark 0x1 jump more": true,
	} {
		if got := judged(in("input", "drop", rule), question) == ""; got != accepts {
			t.Errorf("%q with policy drop: passes %v, want %v", rule, got, accepts)
		}
	}
	for rule, drops := range map[string]bool{"drop": true, "reject": true, "reject with icmpx admin-prohibited": true,
		"udp dport 53 drop": true, "tcp dport 53 drop": false, "meta mark 0x1 drop": false, "return": false,
		"limit rate 3/minute drop": false} {
		if got := judged(in("input", "accept", rule), question) != ""; got != drops {
			t.Errorf("%q with policy accept: drops %v, want %v", rule, got, drops)
		}
	}
}

// Only what is at the packet's hook counts, of IPv4, and not phoenix's own tables.
func TestWhatIsLeftOut(t *testing.T) {
	drop := in("input", "drop")
	for what, text := range map[string]string{
		"another hook":   in("forward", "drop"),
		"another family": strings.Replace(drop, "table inet", "table ip6", 1),
		"bridges":        strings.Replace(drop, "table inet", "table bridge", 1),
		"phoenix":        strings.Replace(drop, " filter {", " phoenix_host_vmbr0 {", 1),
		"nat":            strings.Replace(drop, "type filter", "type nat", 1),
		"a set":          "table inet x {\n\tset a {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1,\n\t\t\t10.0.0.2 }\n\t}\n}\n",
		"nothing":        "",
	} {
		if got := judged(text, question); got != "" {
			t.Errorf("%s: %s", what, got)
		}
	}
	if judged(drop, question) == "" {
		t.Error("the chain itself drops nothing")
	}
	loop := in("input", "drop", "jump base")
	if got := judged(loop, question); got != "" {
		t.Errorf("a chain that calls itself is blamed: %s", got)
	}
}

// The listings are rules that the kernel takes, and what nft lists of them is judged the same.
func TestAsTheKernelHasThem(t *testing.T) {
	conformance.Isolated(t, "nft")
	for _, name := range []string{"docker", "ufw", "firewalld"} {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader("flush ruleset\n" + strings.Replace(listing(t, name), "flags owner", "", 1))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		now, err := exec.Command("nft", "--stateless", "--terse", "list", "ruleset").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []netfilter.Packet{question, between, outside} {
			if got, want := judged(string(now), p), judged(listing(t, name), p); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}
