package config

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// What containers reach of the hypervisor: names, and what the file says. Proxmox has a firewall of its own for that.
func TestHostSide(t *testing.T) {
	cfg := homelab(t)
	side := func() spec.HostFirewall { return get[spec.HostFirewall](t, derive(t, cfg), "hostfirewall/phxbr0") }
	s := side()
	if s.Off || !s.DNS || len(s.MACs) != 4 || !slices.Contains(s.MACs, "52:54:00:86:17:c9") ||
		s.Address != "10.86.17.1" || len(s.Allow) > 0 {
		t.Errorf("%+v", s)
	}
	cfg.Hypervisor.Network.Interface.Allow = Words{"tcp/3128"}
	if s := side(); s.Off || !slices.Equal(s.Allow, []string{"tcp/3128"}) {
		t.Errorf("%+v", s)
	}
	cfg.Hypervisor.Network.Interface.Allow = Words{"all"}
	if s := side(); !s.Off {
		t.Errorf("%+v", s)
	}
	if o, _ := object.Find(derive(t, cfg), "running/201"); !slices.Contains(o.After, "hostfirewall/phxbr0") {
		t.Errorf("201 starts before its reach is restricted: %v", o.After)
	}
	other := machine
	other.Root = "/elsewhere"
	objects, _ := Derive(cfg, other)
	if get[spec.HostFirewall](t, objects, "hostfirewall/phxbr0").Table() == s.Table() {
		t.Error("two roots share a table")
	}
}

func TestAllowFromContainers(t *testing.T) {
	raw, err := os.ReadFile("../../examples/homelab/phoenix_hypervisor_config.json")
	if err != nil {
		t.Fatal(err)
	}
	for value, problems := range map[string]int{
		`["tcp/3128", "udp/8000-8010"]`: 0, `"all"`: 0,
		`["tcp/0", "tcp/70000", "udp/9-8", "icmp/1", "22", "tcp/22; accept"]`: 6,
	} {
		text := strings.Replace(string(raw), `"interfaces": {`, `"interfaces": { "allow_from_containers": `+value+`,`,
			1)
		_, diags := Load([]File{{Name: "phoenix_hypervisor_config.json", Data: []byte(text)}})
		n := 0
		for _, d := range diags {
			if strings.Contains(d.Path, "allow_from_containers") {
				n++
			}
		}
		if n != problems {
			t.Errorf("%s: %d problems, want %d: %v", value, n, problems, diags)
		}
	}
}
