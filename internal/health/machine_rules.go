package health

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/netfilter"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// rulesOfOthers is what has to get past firewalls that are not phoenix's.
type rulesOfOthers struct {
	Bridge   string `json:"bridge"`
	Address  string `json:"address,omitempty"`
	Resolver bool   `json:"resolver,omitempty"`
	Outside  bool   `json:"outside,omitempty"`
}

// need is a packet that containers send, and what does not work without it.
type need struct {
	what   string
	packet netfilter.Packet
}

const ownTables = "phoenix_"

// runOtherRules asks of each packet that containers need whether somebody else's chain drops it.
func runOtherRules(ctx context.Context, h host.Host, c Check, p rulesOfOthers) Result {
	rules, err := listRules(ctx, h)
	if host.Missing(err) {
		return c.pass("no firewall of others stops what containers send", "there is no nft on this machine")
	}
	if err != nil {
		return c.fail("the rules of this machine's firewalls cannot be read", why(err), "nft list ruleset says why")
	}
	needs := p.needs(h)
	for _, n := range needs {
		if b, ok := rules.Dropped(n.packet, ownTables); ok {
			return c.fail(whose(rules, b)+" stops "+n.what, b.String(), allowFix(rules, b, n.packet))
		}
	}
	return c.pass("no firewall of others stops what containers send", fmt.Sprintf("%d kinds of packets of %s",
		len(needs), p.Bridge))
}

// rulesetLimit is how much of a listing is read, in bytes: machines with long lists of addresses have them in sets,
// which are left out.
const rulesetLimit = 16 << 20

func listRules(ctx context.Context, h host.Host) (netfilter.Ruleset, error) {
	res, err := h.Run(ctx, host.Command{Argv: []string{"nft", "--stateless", "--terse", "list", "ruleset"},
		Shared: true, Output: rulesetLimit})
	return netfilter.Parse(string(res.Stdout)), err
}

// needs are the packets by which it is judged.
func (p rulesOfOthers) needs(h host.Host) (out []need) {
	own, err := netip.ParsePrefix(p.Address)
	if err != nil {
		return nil
	}
	one, two := neighbours(own)
	if p.Resolver {
		for _, proto := range []string{"udp", "tcp"} {
			out = append(out, need{"containers from asking the resolver (" + proto + " port 53 of " + own.Addr().String() +
				")", netfilter.Packet{Hook: netfilter.Input, In: p.Bridge, Source: one, Destination: own.Addr(), Proto: proto,
				Port: 53}})
		}
	}
	if bridgesFiltered(h, p.Bridge) {
		out = append(out, need{"containers on " + p.Bridge + " from reaching each other", netfilter.Packet{
			Hook: netfilter.Forward, In: p.Bridge, Out: p.Bridge, Source: one, Destination: two, Proto: "tcp", Port: 443}})
	}
	raw, _ := h.ReadFile("/proc/net/route") // without it there is no uplink
	if up := spec.DefaultRoute(string(raw)); p.Outside && up != "" && up != p.Bridge {
		out = append(out, need{"containers on " + p.Bridge + " from reaching the outside by " + up, netfilter.Packet{
			Hook: netfilter.Forward, In: p.Bridge, Out: up, Source: one, Destination: netip.AddrFrom4([4]byte{9, 9, 9, 9}),
			Proto: "tcp", Port: 443}})
	}
	return out
}

// neighbours are two addresses of a subnet that are not the given one's.
func neighbours(own netip.Prefix) (one, two netip.Addr) {
	at := own.Masked().Addr().Next()
	for ; !two.IsValid() && at.IsValid(); at = at.Next() {
		switch {
		case at == own.Addr():
		case !one.IsValid():
			one = at
		default:
			two = at
		}
	}
	return one, two
}

// bridgesFiltered is whether what stays on the bridge goes through the rules of IPv4 all the same (br_netfilter).
func bridgesFiltered(h host.Host, bridge string) bool {
	for _, path := range []string{"/proc/sys/net/bridge/bridge-nf-call-iptables",
		filepath.Join("/sys/class/net", bridge, "bridge/nf_call_iptables")} {
		if on, err := h.ReadFile(path); err == nil && strings.TrimSpace(string(on)) == "1" {
			return true
		}
	}
	return false
}

// whose names who made a chain.
func whose(r netfilter.Ruleset, b netfilter.Block) string {
	switch {
	case b.Table == "firewalld":
		return "firewalld"
	case b.Table == "filter" && byUFW(r, b):
		return "ufw"
	case b.Table == "filter" && b.Base == "FORWARD" && r.HasChain(b.Family, b.Table, dockerUser):
		return "Docker"
	}
	return "a firewall of this machine"
}

// byUFW: ufw has chains at the hook. Docker and ufw share the chain FORWARD, where Docker's own place comes first.
func byUFW(r netfilter.Ruleset, b netfilter.Block) bool {
	return r.ChainWithPrefix("ufw-") && (b.Base != "FORWARD" || !r.HasChain(b.Family, b.Table, dockerUser))
}

const dockerUser = "DOCKER-USER"

// allowFix is the command that lets the packet, and those like it, through in the firewall that drops it.
func allowFix(r netfilter.Ruleset, b netfilter.Block, p netfilter.Packet) string {
	switch whose(r, b) {
	case "firewalld":
		return fmt.Sprintf("firewall-cmd --permanent --zone=trusted --add-interface=%s && firewall-cmd --reload; "+
			"phoenix's own rules restrict what containers reach", p.In)
	case "ufw":
		if p.Hook == netfilter.Input {
			return fmt.Sprintf("ufw allow in on %s to any port 53 comment phoenix", p.In)
		}
		return fmt.Sprintf("ufw route allow in on %s out on %s comment phoenix", p.In, p.Out)
	case "Docker":
		return iptablesFix(dockerUser, p) + "; they are gone with a boot: put them into a unit that runs after " +
			"docker.service"
	}
	if b.Family == "ip" && b.Table == "filter" && strings.ToUpper(b.Base) == b.Base {
		return iptablesFix(b.Base, p) + "; and save them, such as with netfilter-persistent save"
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s; and write it into /etc/nftables.conf, or where that table is "+
		"kept", b.Family, b.Table, b.Base, nftRule(p))
}

// iptablesFix inserts rules before those of a chain; packets that come back are let through too.
func iptablesFix(chain string, p netfilter.Packet) string {
	switch {
	case p.Hook == netfilter.Input:
		return fmt.Sprintf("iptables -I %[1]s -i %[2]s -p udp --dport %[3]d -j ACCEPT; iptables -I %[1]s -i %[2]s -p tcp "+
			"--dport %[3]d -j ACCEPT", chain, p.In, p.Port)
	case p.In == p.Out:
		return fmt.Sprintf("iptables -I %s -i %s -o %s -j ACCEPT", chain, p.In, p.Out)
	}
	return fmt.Sprintf("iptables -I %[1]s -i %[2]s -o %[3]s -j ACCEPT; iptables -I %[1]s -i %[3]s -o %[2]s -j ACCEPT",
		chain, p.In, p.Out)
}

func nftRule(p netfilter.Packet) string {
	switch {
	case p.Hook == netfilter.Input:
		return fmt.Sprintf("iifname %s meta l4proto '{ tcp, udp }' th dport %d accept", p.In, p.Port)
	case p.In == p.Out:
		return fmt.Sprintf("iifname %s oifname %s accept", p.In, p.Out)
	}
	return fmt.Sprintf("iifname %[1]s oifname %[2]s accept; the same with iifname %[2]s oifname %[1]s", p.In, p.Out)
}
