package config

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// grows reports whether the only difference between two specs of a kind is that more is asked for, in a way that is
// known to take nothing from those who use what is there: records are added, sites are added and Nginx reloads, names
// are added to a certificate. A CA that may sign more names starts anew, which nobody sees but who asks for a
// certificate in that moment, and asks again. What is not known to be so is not.
func grows(kind string, old, new json.RawMessage) bool {
	switch kind {
	case spec.KindDNS:
		return grown(old, new, func(a, b *spec.DNS) bool { return zonesGrow(a.Zones, b.Zones) },
			func(s *spec.DNS) { s.Zones = nil })
	case spec.KindNginx:
		return grown(old, new, func(a, b *spec.Nginx) bool { return holds(b.Sites, a.Sites) },
			func(s *spec.Nginx) { s.Sites = nil })
	case spec.KindTraefik:
		return grown(old, new, func(a, b *spec.Traefik) bool { return routesGrow(a.Routes, b.Routes) },
			func(s *spec.Traefik) { s.Routes = nil })
	case spec.KindStepCA:
		return grown(old, new, func(a, b *spec.StepCA) bool {
			return holds(b.DNSNames, a.DNSNames) && holds(b.AllowedNames, a.AllowedNames) &&
				holds(b.Domains, a.Domains) && holds(b.Addresses, a.Addresses)
		}, func(s *spec.StepCA) {
			s.DNSNames, s.AllowedNames, s.Domains, s.Addresses = nil, nil, nil, nil
			s.RootPermits, s.RootOpen = nil, false // for a root that is still to be made, by a person
		})
	case spec.KindCertificate:
		return grown(old, new, func(a, b *spec.Certificate) bool { return holds(b.DNSNames, a.DNSNames) },
			// the first of its names may be another now
			func(s *spec.Certificate) { s.DNSNames, s.CommonName = nil, "" })
	case spec.KindFirewall:
		return grown(old, new, func(a, b *spec.Firewall) bool { return rulesGrow(a.Rules, b.Rules) },
			func(s *spec.Firewall) { s.Rules = nil })
	case spec.KindHostFirewall:
		return grown(old, new, func(a, b *spec.HostFirewall) bool {
			return holds(b.MACs, a.MACs) &&
				holds(b.Allow, a.Allow)
		},
			func(s *spec.HostFirewall) { s.MACs, s.Allow = nil, nil })
	case spec.KindRunning: // the health check is no part of what runs
		return grown(old, new, func(*spec.Running, *spec.Running) bool { return true },
			func(s *spec.Running) { s.Check, s.Again = "", nil })
	}
	return false
}

// grown compares two specs: more tells of the parts that may grow, and rest takes these out.
func grown[S any](old, new json.RawMessage, more func(a, b *S) bool, rest func(*S)) bool {
	var a, b S
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(new, &b) != nil || !more(&a, &b) {
		return false
	}
	rest(&a)
	rest(&b)
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// holds reports whether all of some are among others.
func holds[T comparable](all, some []T) bool {
	return !slices.ContainsFunc(some, func(x T) bool { return !slices.Contains(all, x) })
}

func zonesGrow(old, new []spec.Zone) bool {
	for _, z := range old {
		i := slices.IndexFunc(new, func(x spec.Zone) bool { return x.Name == z.Name })
		if i < 0 {
			return false
		}
		for _, r := range z.Records {
			// A name that is there leads where it led: another address more is another way for its clients.
			if !slices.ContainsFunc(new[i].Records,
				func(x spec.Record) bool { return x.Name == r.Name && slices.Equal(x.Addresses, r.Addresses) }) {
				return false
			}
		}
	}
	return true
}

func routesGrow(old, new []spec.TraefikRoute) bool {
	for _, r := range old {
		grew := func(x spec.TraefikRoute) bool {
			return x.Name == r.Name && x.URL == r.URL && x.ServerName == r.ServerName && holds(x.Hosts, r.Hosts)
		}
		if !slices.ContainsFunc(new, grew) {
			return false
		}
	}
	return true
}

// rulesGrow is whether no rule but such that accept is new, and none is gone. Where others are among them their order
// decides, and must stay.
func rulesGrow(old, new []spec.Rule) bool {
	other := func(r spec.Rule) bool { return r.Action != spec.Accept }
	if slices.ContainsFunc(old, other) || slices.ContainsFunc(new, other) {
		return slices.EqualFunc(old, new, func(a, b spec.Rule) bool { return a.Meaning() == b.Meaning() })
	}
	return !slices.ContainsFunc(old, func(r spec.Rule) bool {
		return !slices.ContainsFunc(new, func(x spec.Rule) bool { return covers(x, r) })
	})
}

// covers is whether a rule lets in what the other does: the same but for more ports.
func covers(a, b spec.Rule) bool {
	ports := holds(strings.Split(a.Ports, ","), strings.Split(b.Ports, ","))
	a.Comment, b.Comment, a.Ports, b.Ports = "", "", "", ""
	return a == b && ports
}
