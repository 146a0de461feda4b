package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// sampleWithPorts is the sample, of which container 201 has a port of the hypervisor and a firewall.
func sampleWithPorts(t *testing.T) (*Config, *Container) {
	t.Helper()
	cfg := homelab(t)
	c, ok := cfg.Container("201")
	if !ok {
		t.Fatal("the sample has no container 201")
	}
	c.Ports, c.Firewall.Enabled = Words{"8080:8000", "5353:53/udp"}, true
	return cfg, c
}

// Ports that stand in a file open nothing until the file says for the whole site that they do.
func TestPortsNeedAWord(t *testing.T) {
	cfg, c := sampleWithPorts(t)
	before := get[spec.Firewall](t, derive(t, cfg), "firewall/201")
	for _, access := range []string{spec.AccessNone, spec.AccessForward, spec.AccessRoute} {
		cfg.Hypervisor.Access = access
		if access != spec.AccessNone {
			if s := get[spec.Access](t, derive(t, cfg), "access/phxbr0"); len(s.Forwards) > 0 {
				t.Errorf("access %s: %+v is forwarded", access, s.Forwards)
			}
		}
		after := get[spec.Firewall](t, derive(t, cfg), "firewall/201")
		if len(after.Rules) != len(before.Rules) || len(cfg.publishes(c)) > 0 {
			t.Errorf("access %s: the firewall has %+v, had %+v", access, after.Rules, before.Rules)
		}
	}
}

// With the word they lead to the container, whose firewall lets in the LAN and the hypervisor's checks, and no other
// container.
func TestPortsAreForwarded(t *testing.T) {
	cfg, c := sampleWithPorts(t)
	cfg.Hypervisor.Access, cfg.Hypervisor.ForwardPorts = spec.AccessForward, true
	objects := derive(t, cfg)
	own := c.Network.Address.Addr().String()
	s := get[spec.Access](t, objects, "access/phxbr0")
	if len(s.Forwards) != 2 || s.Forwards[0] != (spec.Forward{Port: "tcp/8080", To: own + ":8000"}) ||
		s.Forwards[1] != (spec.Forward{Port: "udp/5353", To: own + ":53"}) {
		t.Errorf("%+v", s.Forwards)
	}
	lets := func(from, proto, port string) bool {
		at := netip.MustParseAddr(from)
		for _, r := range get[spec.Firewall](t, objects, "firewall/201").Rules {
			if r.Direction != spec.In || r.Action != spec.Accept || r.Proto != proto || r.Ports != port {
				continue
			}
			for part := range strings.SplitSeq(r.Source, ",") {
				if n, ok := network(part); ok && n.Contains(at) || part == "" {
					return true
				}
			}
		}
		return false
	}
	for _, x := range []struct {
		from, proto, port string
		want              bool
	}{
		{"192.168.1.20", "udp", "53", true}, {"203.0.113.9", "udp", "53", true}, {"0.0.0.0", "udp", "53", true},
		{"255.255.255.254", "udp", "53", true}, {"10.86.16.255", "udp", "53", true}, {"10.86.18.0", "udp", "53", true},
		{"10.86.17.5", "udp", "53", false}, {"10.86.17.1", "udp", "53", false}, {"192.168.1.20", "udp", "5353", false},
	} {
		if got := lets(x.from, x.proto, x.port); got != x.want {
			t.Errorf("%s %s/%s: %v, want %v", x.from, x.proto, x.port, got, x.want)
		}
	}
	// A gateway is not needed for it.
	for _, x := range cfg.Containers {
		x.Features, x.ApplicationScript, x.TraefikService, x.Certificates = nil, "", nil, nil
	}
	bare, _ := Derive(cfg, machine)
	if s := get[spec.Access](t, bare, "access/phxbr0"); s.Gateway != "" || len(s.Ports) > 0 || len(s.Forwards) != 2 {
		t.Errorf("%+v", s)
	}
}
