package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// fireRule is one firewall rule of the users' files. An empty field stands for anything.
type fireRule struct {
	spot
	direction, action, proto, source, dest, iface, ports string
}

// fireRules reads a list of rules; those that are switched off count for nothing.
func fireRules(list spot) []fireRule {
	var out []fireRule
	for _, s := range list.list() {
		if enable := s.get("enable").text(); enable == "0" || enable == "false" {
			continue
		}
		low := func(key string) string { return strings.ToLower(strings.ReplaceAll(s.get(key).text(), " ", "")) }
		r := fireRule{spot: s, direction: low("type"), action: low("action"), proto: low("proto"),
			source: anywhere(low("source")), dest: anywhere(low("dest")),
			iface: low("iface"), ports: low("port")}
		if r.ports == "" {
			r.ports = low("dport")
		}
		out = append(out, r)
	}
	return out
}

// anywhere is empty for the ways to write "any".
func anywhere(s string) string {
	switch s {
	case "any", "0.0.0.0/0", "::/0", "0.0.0.0", "*":
		return ""
	}
	return s
}

// what is the rule without its action.
func (r fireRule) what() [6]string {
	ports := strings.Split(r.ports, ",")
	slices.Sort(ports)
	return [6]string{r.direction, r.proto, r.source, r.dest, r.iface, strings.Join(ports, ",")}
}

// covers reports whether everything that other is about is what r is about, too.
func (r fireRule) covers(other fireRule) bool {
	mine, others := r.what(), other.what()
	for i, field := range mine {
		if field != "" && field != others[i] {
			return false
		}
	}
	return true
}

func (r fireRule) accepts() bool { return r.action == "accept" && r.direction == "in" }

// target is what the rule opens, for people.
func (r fireRule) target() string {
	out := strings.TrimSpace(r.proto + " " + r.ports)
	if r.ports == "" {
		out = strings.TrimSpace(r.proto + " every port")
	}
	if r.dest != "" {
		out += " of " + r.dest
	}
	return out
}

// hits reports whether the rule is about a TCP port.
func (r fireRule) hits(port int) bool {
	if r.proto != "" && r.proto != "tcp" && r.proto != "all" {
		return false
	}
	if r.ports == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(r.ports, ","), func(p string) bool {
		from, to, ranged := strings.Cut(p, ":")
		if !ranged {
			to = from
		}
		low, errLow := strconv.Atoi(from)
		high, errHigh := strconv.Atoi(to)
		return errLow == nil && errHigh == nil && low <= port && port <= high
	})
}

// auditFirewall looks at the rules of each container and at the hypervisor's, which some files have among the shared
// volumes.
func (a *auditor) auditFirewall() {
	for _, x := range a.cfg.Containers {
		fire := a.containerFile.get("lxc_configs", x.ID, "firewall")
		rules := fireRules(fire.get("rules"))
		a.contradictions(rules)
		a.anySource(rules, x)
		if x != a.ca {
			continue
		}
		if off := fire.get("enabled"); off.text() == "false" {
			a.report(ruleCAOpen, off, `"enabled": true`, "the firewall of the container with the CA is off")
		}
		a.reachesCA(rules, func(fireRule) bool { return true })
	}
	for _, at := range [][]string{{"firewall"}, {"shared_volumes", "firewall"}} {
		fire := a.hypervisorFile.get(at...)
		rules := fireRules(fire.get("global_firewall_rules"))
		a.contradictions(rules)
		a.anySource(rules, nil)
		if a.ca == nil || !a.ca.Network.Address.IsValid() {
			continue
		}
		a.reachesCA(rules, func(r fireRule) bool { return contains(r.dest, a.ca.Network.Address.Addr()) })
	}
}

// auditAccess tells what the key access opens to the LAN.
func (a *auditor) auditAccess() {
	h := &a.cfg.Hypervisor
	key := a.hypervisorFile.get("access")
	switch h.Access {
	case spec.AccessForward:
		a.auditPorts()
		for _, x := range a.cfg.Containers {
			if x.IsGateway() {
				a.report(ruleForwarded, key, `accept it (audit_accept) where it is meant; "access": "none" closes it`,
					"TCP 80 and 443 of this machine are forwarded to container "+x.ID)
				return
			}
		}
	case spec.AccessRoute:
		templates := survey(a.cfg).templates
		for _, x := range a.cfg.Containers {
			if !x.Firewall.Enabled && !templates[x.ID] && x.Network.Bridge == h.Network.Interface.Name {
				a.finding(ruleRouted, x.At, "firewall",
					`"firewall": {"enabled": true}, with rules for what the LAN needs`,
					"with access route the LAN reaches every port of container %s", x.ID)
			}
		}
	}
}

// auditPorts tells which ports of the hypervisor lead to which container.
func (a *auditor) auditPorts() {
	templates := survey(a.cfg).templates
	for _, x := range a.cfg.Containers {
		for _, p := range a.cfg.publishes(x) {
			if !templates[x.ID] {
				a.finding(rulePublished, x.At, "ports", "a name behind the gateway by traefik_service; or accept it "+
					"(audit_accept) where it is meant", "%s of this machine is forwarded to %s of container %s", p,
					hostPort(x.Network.Address.Addr(), p.port), x.ID)
			}
		}
	}
}

// contradictions compares each rule with those before it, of which the first that fits counts.
func (a *auditor) contradictions(rules []fireRule) {
	for i, r := range rules {
		for _, before := range rules[:i] {
			switch {
			case r.what() == before.what() && r.action == before.action:
				a.report(ruleTwiceAllowed, r.spot, "remove one of the two",
					"the rule stands in line "+strconv.Itoa(before.at.line)+" already")
			case before.covers(r) && r.action != before.action:
				a.report(ruleContradiction, r.spot, "remove the one that is not meant",
					"the rule has no effect: the one in line "+strconv.Itoa(before.at.line)+" says "+
						strings.ToUpper(before.action)+" before it")
			default:
				continue
			}
			break
		}
	}
}

// anySource: the gateway's own two ports are for everybody.
func (a *auditor) anySource(rules []fireRule, x *Container) {
	for _, r := range rules {
		public := x != nil && x.IsGateway() &&
			!slices.ContainsFunc(strings.Split(r.ports, ","), func(p string) bool { return p != "80" && p != "443" })
		if r.accepts() && r.source == "" && r.iface == "" && !public {
			a.report(ruleAnySource, r.spot, `name who needs it, such as "source": "10.0.0.12"`,
				"any source may connect to "+r.target())
		}
	}
}

// reachesCA looks for rules that let more than the CA's clients at its port.
func (a *auditor) reachesCA(rules []fireRule, about func(fireRule) bool) {
	for _, r := range rules {
		if !r.accepts() || !r.hits(caPort) || !about(r) || a.isClient(r.source) {
			continue
		}
		who := r.source
		if who == "" {
			who = "any source"
		}
		a.report(ruleCAOpen, r.spot, "name the clients of the CA one by one, with port "+strconv.Itoa(caPort),
			who+" may connect to the CA's port "+strconv.Itoa(caPort))
	}
}

// contains reports whether an address is one of what a rule names.
func contains(field string, ip netip.Addr) bool {
	if field == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(field, ","), func(part string) bool {
		if p, err := netip.ParsePrefix(part); err == nil {
			return p.Contains(ip)
		}
		single, err := netip.ParseAddr(part)
		return err == nil && single == ip
	})
}

// isClient reports whether a source is only clients of the CA, or the hypervisor.
func (a *auditor) isClient(source string) bool {
	for _, part := range strings.Split(source, ",") {
		part = strings.TrimSuffix(part, "/32")
		ip, err := netip.ParseAddr(part)
		known := err == nil && ip == a.cfg.Hypervisor.Network.Interface.Address.Addr()
		for _, x := range a.cfg.Containers {
			known = known || err == nil && x.Network.Address.IsValid() && ip == x.Network.Address.Addr() && x.UsesCA()
		}
		if !known {
			return false
		}
	}
	return true
}

// UsesCA reports whether the container needs to reach the CA.
func (c *Container) UsesCA() bool {
	return c.IsCA() || c.IsGateway() || c.IsProxy() || len(c.Certificates) > 0 || c.Has(FeatureTrustedCA) ||
		c.Has(FeatureStepCLI)
}
