package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var (
	filterName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)              // of a security group or a macro
	filterSet  = regexp.MustCompile(`^\+?([a-z]+/)?[A-Za-z][A-Za-z0-9_-]{1,63}$`) // an IP set or an alias of Proxmox's
	protoName  = regexp.MustCompile(`^([a-z][a-z0-9+.-]{0,15}|[0-9]{1,3})$`)      // protocols(5)
	icmpName   = regexp.MustCompile(`^[a-z0-9][a-z0-9/-]{0,39}$`)                 // echo-request, 8, 3/1
	ifaceName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,14}$`)             // of the container's, or net0
	icmpProtos = map[string]bool{"icmp": true, "icmpv6": true, "ipv6-icmp": true} // those with a type
	portProtos = map[string]bool{"tcp": true, "udp": true, "sctp": true, "dccp": true, "udplite": true}
)

// firewalls checks every rule by reading it.
func (c *checker) firewalls() {
	for _, x := range c.cfg.Containers {
		for _, r := range x.Firewall.Rules {
			if r.Type == "" || r.Action == "" {
				continue // told already
			}
			found := r.problems()
			for _, key := range slices.Sorted(maps.Keys(found)) {
				c.errorf(r.At, key, found[key].hint, "%s", found[key].text)
			}
		}
	}
}

type ruleProblem struct{ text, hint string }

// problems are what is wrong with a rule, by its key.
func (r *FirewallRule) problems() map[string]ruleProblem {
	out := map[string]ruleProblem{}
	wrong := func(key, hint, format string, args ...any) {
		out[key] = ruleProblem{fmt.Sprintf(format, args...), hint}
	}
	check := func(key, value string, pattern *regexp.Regexp, what string) {
		if value != "" && !pattern.MatchString(value) {
			wrong(key, "", "%q is not %s", value, what)
		}
	}
	switch action := strings.ToUpper(r.Action); {
	case r.Type == spec.Group:
		check("action", r.Action, filterName, "the name of a security group")
	case action != spec.Accept && action != spec.Drop && action != spec.Reject:
		wrong("action", "ACCEPT, DROP or REJECT", "%q is no action", r.Action)
	}
	check("macro", r.Macro, filterName, "the name of a macro")
	check("proto", r.proto(), protoName, "a protocol such as tcp")
	check("icmp_type", r.icmp(), icmpName, "a type such as echo-request")
	check("iface", r.Iface, ifaceName, "an interface such as net0")
	if r.Port != "" && r.DPort != "" {
		wrong("dport", "keep one of them", "port and dport are two words for one thing")
	}
	for key, value := range map[string]Number{"port": r.Port, "dport": r.DPort, "sport": r.SPort} {
		if _, err := spec.Ports(string(value)); err != nil {
			wrong(key, `ports such as "80,443" or "8000:8010"`, "%v", err)
		} else if value != "" && !portProtos[r.proto()] && r.Macro == "" {
			wrong(key, `add "proto": "tcp"`, "a port is one of a protocol that has ports, and the rule names none")
		}
	}
	if r.icmp() != "" && !icmpProtos[r.proto()] {
		wrong("icmp_type", `add "proto": "icmp"`, "only icmp has types")
	}
	for key, value := range map[string]string{"source": r.Source, "dest": r.Dest} {
		if _, err := addresses(value); err != nil {
			wrong(key, `IPv4 addresses or subnets such as "10.0.0.12" or "10.0.0.0/24"`, "%v", err)
		}
	}
	return out
}

// addresses are those of a rule: as spec.Addresses writes them, or the name of one of Proxmox's IP sets or aliases.
func addresses(text string) (string, error) {
	out, err := spec.Addresses(text)
	if err != nil && filterSet.MatchString(text) {
		return text, nil
	}
	return out, err
}

func (r *FirewallRule) icmp() string { return cmp.Or(r.ICMPType, r.ICMP) }

func (r *FirewallRule) proto() string {
	switch p := strings.ToLower(strings.TrimSpace(string(r.Proto))); p {
	case "any", "all":
		return ""
	case "icmpv6":
		return "ipv6-icmp"
	case "1":
		return "icmp"
	case "6":
		return "tcp"
	case "17":
		return "udp"
	default:
		return p
	}
}

// errNoRule: what check has refused is not derived from.
var errNoRule = errors.New("the rule is not readable")

// rule is what the users' rule means.
func (r *FirewallRule) rule() (spec.Rule, error) {
	if r.Type == "" || r.Action == "" || len(r.problems()) > 0 {
		return spec.Rule{}, errNoRule
	}
	out := spec.Rule{
		Direction: r.Type, Action: r.Action, Macro: r.Macro, Proto: r.proto(), ICMPType: r.icmp(), Interface: r.Iface,
		Log: r.Log, Comment: r.Comment,
	}
	if r.Type != spec.Group {
		out.Action = strings.ToUpper(r.Action)
	}
	out.Source, _ = addresses(r.Source) // problems has seen them
	out.Dest, _ = addresses(r.Dest)
	out.Ports, _ = spec.Ports(string(cmp.Or(r.Port, r.DPort)))
	out.SourcePorts, _ = spec.Ports(string(r.SPort))
	return out, nil
}
