package health

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// hostFirewall looks at what containers reach of the hypervisor, where the file restricts it and there are containers.
func (m *model) hostFirewall(o object.Object, s spec.HostFirewall) {
	if !s.Off && len(s.MACs) > 0 {
		m.add(kindHostFirewall, o, "", s)
	}
}

// runHostFirewall reads the rules that the kernel has: whether they are there, about all containers, and let through
// what they should only.
func runHostFirewall(ctx context.Context, h host.Host, c Check, s spec.HostFirewall) Result {
	const summary = "containers may reach more of the hypervisor than the file says"
	argv := []string{"nft", "--stateless", "list", "table", "inet", s.Table()}
	res, err := h.Run(ctx, host.Command{Argv: argv, Shared: true})
	if err != nil {
		return c.fail(summary, why(err), c.apply())
	}
	if wrong := tooOpen(chainsOf(string(res.Stdout))["from_containers"], s); wrong != "" {
		return c.fail(summary, "table inet "+s.Table()+": "+wrong, c.apply())
	}
	allowed := []string{s.Bridge + ": ICMP echo"}
	if s.DNS {
		allowed = append(allowed, "names")
	}
	allowed = append(allowed, s.Allow...)
	return c.pass("containers reach of the hypervisor what the file says only", strings.Join(allowed, ", "))
}

// tooOpen says how the chain differs from what restricts the containers; empty: it does not.
func tooOpen(chain []string, s spec.HostFirewall) string {
	foreign := `iifname != "` + s.Bridge + `" accept`
	switch {
	case len(chain) == 0:
		return "chain from_containers does not exist"
	case !strings.HasPrefix(chain[0], "type filter hook input "):
		return "chain from_containers is not called for what is sent to the hypervisor"
	case chain[len(chain)-1] != "drop":
		return "chain from_containers does not end with drop"
	case !slices.Contains(chain, foreign):
		return "chain from_containers has no rule " + foreign
	}
	for _, rule := range chain[1 : len(chain)-1] {
		macs, others := strings.CutPrefix(rule, "ether saddr != ")
		switch {
		case rule == foreign, strings.HasSuffix(rule, " drop"):
		case others:
			for _, mac := range s.MACs {
				if !strings.Contains(macs, mac) {
					return "a container's MAC is not in its rules: " + mac
				}
			}
		case !lets(rule, s):
			return "chain from_containers has a rule too many: " + rule
		}
	}
	if !slices.ContainsFunc(chain, func(r string) bool { return strings.HasPrefix(r, "ether saddr != ") }) {
		return "chain from_containers does not tell containers from others"
	}
	return ""
}

// lets tells whether a rule that accepts is one of those that containers are meant to have.
func lets(rule string, s spec.HostFirewall) bool {
	for _, always := range []string{"ct state ", "icmp type echo-request ", "icmpv6 type { "} {
		if strings.HasPrefix(rule, always) {
			return !strings.Contains(rule, "new") && !strings.Contains(rule, "untracked")
		}
	}
	family := "ip"
	if a, err := netip.ParseAddr(s.Address); err == nil && a.Is6() {
		family = "ip6"
	}
	for _, proto := range []string{"udp", "tcp"} {
		if s.DNS && rule == family+" daddr "+s.Address+" "+proto+" dport 53 accept" {
			return true
		}
	}
	return slices.ContainsFunc(s.Allow, func(p string) bool {
		proto, ports, _ := strings.Cut(p, "/")
		return rule == proto+" dport "+ports+" accept"
	})
}
