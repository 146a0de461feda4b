package config

import (
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// walled is the homelab where one container's firewall is another; ids is the container, then its new firewall as JSON.
func walled(t *testing.T, id, firewall string) ([]File, *Config, diag.List) {
	t.Helper()
	var files []File
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		raw, err := os.ReadFile("../../examples/homelab/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "phoenix_lxc_configs.json" {
			var doc map[string]map[string]map[string]any
			if err := json.Unmarshal(raw, &doc); err != nil {
				t.Fatal(err)
			}
			delete(doc["lxc_configs"][id], "firewall")
			if firewall != "" {
				doc["lxc_configs"][id]["firewall"] = json.RawMessage(firewall)
			}
			if raw, err = json.MarshalIndent(doc, "", " "); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, File{Name: name, Data: raw})
	}
	cfg, diags := Load(files)
	return files, cfg, diags
}

func meaningsOf(objects []object.Object, t *testing.T, id string) []string {
	t.Helper()
	var out []string
	for _, r := range get[spec.Firewall](t, objects, object.Address("firewall/"+id)).Rules {
		out = append(out, r.Meaning())
	}
	return out
}

// What phoenix needs is let in, from whom it is needed, and nothing else.
func TestFlowsOfTheHomelab(t *testing.T) {
	objects := derive(t, homelab(t))
	for id, want := range map[string][]string{
		"101": {"in ACCEPT tcp 80,443 to 10.86.17.101"},
		// the last is its own
		"102": {"in ACCEPT tcp 443 from 10.86.17.101 to 10.86.17.102",
			"in ACCEPT tcp 8443 from 10.86.17.101 to 10.86.17.102",
			"in ACCEPT tcp 80 from 10.86.17.101 to 10.86.17.102", "in ACCEPT tcp 443 from 10.86.17.1"},
		"103": {"in ACCEPT tcp 9000 from 10.86.17.1 to 10.86.17.103", "in ACCEPT tcp 9000 from " +
			"10.86.17.101,10.86.17.102,10.86.17.201 to 10.86.17.103"},
		"201": {"in ACCEPT tcp 80 from 10.86.17.103 to 10.86.17.201",
			"in ACCEPT tcp 8443 from 10.86.17.102 to 10.86.17.201",
			"in ACCEPT tcp 8443 from 10.86.17.1 to 10.86.17.201"},
	} {
		if got := meaningsOf(objects, t, id); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
		o, _ := object.Find(objects, object.Address("running/"+id))
		if !slices.Contains(o.After, object.Address("firewall/"+id)) {
			t.Errorf("%s runs before its firewall stands: %v", id, o.After)
		}
	}
}

// The users' rules come between what phoenix needs of certain hosts and what is open to anybody; what repeats another
// is left out and told, what has no effect is told.
func TestRulesOfTheUsers(t *testing.T) {
	for name, c := range map[string]struct {
		id, rules string
		want      []string
		told      []string // in the order of the file
	}{
		"order": {"101",
			`{"type": "in", "action": "DROP", "source": "10.86.17.66"}, {"type": "in", "action": "accept", "proto": "TCP", "port": 22, "source": "10.86.17.0/24", "log": "info"}`,
			[]string{"in DROP from 10.86.17.66", "in ACCEPT tcp 22 from 10.86.17.0/24 log info",
				"in ACCEPT tcp 80,443 to 10.86.17.101"}, nil},
		"repeated": {"101",
			`{"type": "in", "action": "ACCEPT", "proto": "tcp", "dport": "https"}, {"type": "in", "action": "ACCEPT", "proto": "icmp"}, {"type": "in", "action": "ACCEPT", "proto": "1"},
			{"type": "in", "action": "ACCEPT", "proto": "icmp", "icmp-type": "echo-request"}`,
			[]string{"in ACCEPT icmp", "in ACCEPT tcp 80,443 to 10.86.17.101"},
			[]string{"repeats another", "repeats another", "repeats another"}},
		"not repeated: another word comes between": {"101",
			`{"type": "in", "action": "ACCEPT", "proto": "tcp", "port": "443", "source": "10.86.17.5"}, {"type": "in", "action": "DROP", "source": "10.86.17.0/24"}`,
			[]string{"in ACCEPT tcp 443 from 10.86.17.5", "in DROP from 10.86.17.0/24",
				"in ACCEPT tcp 80,443 to 10.86.17.101"}, nil},
		"no effect": {"103",
			`{"type": "in", "action": "DROP", "proto": "tcp", "port": "9000", "source": "10.86.17.101"}`,
			[]string{"in ACCEPT tcp 9000 from 10.86.17.1 to 10.86.17.103", "in ACCEPT tcp 9000 from " +
				"10.86.17.101,10.86.17.102,10.86.17.201 to 10.86.17.103", "in DROP tcp 9000 from 10.86.17.101"},
			[]string{"has no effect"}},
		"off": {"102",
			`{"type": "in", "action": "ACCEPT", "enable": 0}, {"type": "in", "action": "ACCEPT", "enable": false}, {"type": "in", "action": "ACCEPT", "proto": "udp", "enable": "1"}`,
			[]string{"in ACCEPT tcp 443 from 10.86.17.101 to 10.86.17.102",
				"in ACCEPT tcp 8443 from 10.86.17.101 to 10.86.17.102",
				"in ACCEPT tcp 80 from 10.86.17.101 to 10.86.17.102", "in ACCEPT udp"}, nil},
		"out": {"102", `{"type": "out", "action": "DROP"}`,
			[]string{"in ACCEPT tcp 443 from 10.86.17.101 to 10.86.17.102",
				"in ACCEPT tcp 8443 from 10.86.17.101 to 10.86.17.102",
				"in ACCEPT tcp 80 from 10.86.17.101 to 10.86.17.102", "out ACCEPT tcp 9000 to 10.86.17.103",
				"out ACCEPT udp 53 to 10.86.17.1",
				"out ACCEPT tcp 53 to 10.86.17.1", "out ACCEPT tcp 8443 to 10.86.17.201", "out DROP"}, nil},
		"Proxmox's own words": {"102",
			`{"type": "group", "action": "ours"}, {"type": "in", "action": "ACCEPT", "macro": "SSH"}, {"type": "in", "action": "ACCEPT", "source": "+set"},
			{"type": "in", "action": "ACCEPT", "iface": "net1"}, {"type": "in", "action": "REJECT", "iface": "eth0", "proto": "udp"}`,
			[]string{"in ACCEPT tcp 443 from 10.86.17.101 to 10.86.17.102",
				"in ACCEPT tcp 8443 from 10.86.17.101 to 10.86.17.102",
				"in ACCEPT tcp 80 from 10.86.17.101 to 10.86.17.102", "in DROP udp"},
			[]string{"not acted on", "not acted on", "not acted on", "not acted on", "REJECT is DROP here"}},
	} {
		_, cfg, diags := walled(t, c.id, `{"enabled": true, "rules": [`+c.rules+`]}`)
		if diags.HasErrors() {
			t.Errorf("%s: %v", name, diags.Err())
			continue
		}
		objects, more := Derive(cfg, machine)
		if got := meaningsOf(objects, t, c.id); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		var told []string
		for _, d := range more {
			if strings.HasPrefix(d.Summary, "firewall: ") && d.Line > 0 &&
				strings.Contains(d.Path, ".firewall.rules[") {
				told = append(told, d.Summary)
			}
		}
		if len(told) != len(c.told) {
			t.Fatalf("%s: told %q, want %q", name, told, c.told)
		}
		for i, w := range c.told {
			if !strings.Contains(told[i], w) {
				t.Errorf("%s: told %q, want %q", name, told, c.told)
			}
		}
	}
}

// On Proxmox its own words are kept; without the switch of the cluster that is told, and the host answers for names.
func TestFirewallOnProxmox(t *testing.T) {
	_, cfg, _ := walled(t, "102",
		`{"enabled": true, "rules": [{"type": "group", "action": "ours", "iface": "eth0"}, {"type": "in", "action": "REJECT", "macro": "SSH", "source": "dc/us"}]}`)
	m := machine
	m.Runtime, m.Proxmox, m.Storages = "pve", &spec.Proxmox{Dir: "/etc/pve", State: "/s", Locks: "/l"},
		[]Storage{{ID: "x", Content: []string{"rootdir"}}}
	for _, state := range []struct{ on, consent, told bool }{{false, false, true}, {true, false, false},
		{false, true, false}} {
		m.Filters, m.FilterOn = state.on, state.consent
		objects, diags := Derive(cfg, m)
		if got := slices.ContainsFunc(diags, func(d diag.Diagnostic) bool {
			return strings.Contains(d.Summary, "off for the whole cluster") && strings.Contains(d.Hint, "--yes")
		}); got != state.told {
			t.Errorf("%+v: %v", state, diags)
		}
		want := []string{"out DROP icmpv6 type neighbor-advertisement",
			"in ACCEPT tcp 443 from 10.86.17.101 to 10.86.17.102",
			"in ACCEPT tcp 8443 from 10.86.17.101 to 10.86.17.102",
			"in ACCEPT tcp 80 from 10.86.17.101 to 10.86.17.102", "group ours on net0",
			"in REJECT macro SSH from dc/us"}
		if got := meaningsOf(objects, t, "102"); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		node := get[spec.NodeFirewall](t, objects, "node/firewall")
		if len(node.Rules) != 2 || node.Rules[0].Meaning() != "in ACCEPT udp 53 from 10.86.17.0/24" ||
			node.On != state.consent {
			t.Errorf("%+v", node)
		}
		if c := get[spec.Container](t, objects, "container/102"); !c.Guest.Firewall {
			t.Error("the interface does not pass the firewall")
		}
		o, _ := object.Find(objects, "firewall/102")
		if !slices.Contains(o.After, "container/102") || !slices.Contains(o.After, "node/firewall") {
			t.Errorf("a clone brings the file of its source: %v", o.After)
		}
	}
}

// Where nothing is said there are no rules, and where it is said that there are to be none; who the container is, is
// enforced all the same: with the MAC of the file, else with that of its definition.
func TestNoFirewall(t *testing.T) {
	for text, mac := range map[string]string{"": "52:54:00:86:17:c9",
		`{"enabled": false, "rules": [{"type": "in", "action": "DROP"}]}`: ""} {
		_, cfg, _ := walled(t, "201", text)
		if mac == "" {
			cfg.Containers[slices.IndexFunc(cfg.Containers, func(c *Container) bool { return c.ID == "201" })].MAC = ""
			mac = spec.StableMAC("/r/lxc", "201")
		}
		objects := derive(t, cfg)
		want := spec.Firewall{ID: "201", Open: true, Port: PortName("/r", "201"), Bridge: "phxbr0",
			Address: "10.86.17.201", MAC: mac}
		if got := get[spec.Firewall](t, objects, "firewall/201"); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
		if got := get[spec.Container](t, objects, "container/201").Interface.MAC; got != mac {
			t.Errorf("%q: defined with %s, enforced is %s", text, got, mac)
		}
	}
}

// On Proxmox a container that asks for no firewall is kept to its own addresses all the same.
func TestIdentityOnProxmox(t *testing.T) {
	for _, said := range []string{"", `{"enabled": false, "rules": [{"type": "in", "action": "DROP"}]}`} {
		_, cfg, _ := walled(t, "201", said)
		m := machine
		m.Runtime, m.Proxmox, m.Storages = "pve", &spec.Proxmox{Dir: "/etc/pve", State: "/s", Locks: "/l"},
			[]Storage{{ID: "x", Content: []string{"rootdir"}}}
		objects, _ := Derive(cfg, m)
		s := get[spec.Firewall](t, objects, "firewall/201")
		if !s.Open || s.Off || len(s.Rules) != 1 || s.Rules[0] != spec.Advertisements() || s.Address != "10.86.17.201" {
			t.Errorf("%q: %+v", said, s)
		}
		if c := get[spec.Container](t, objects, "container/201"); !c.Guest.Firewall {
			t.Errorf("%q: the interface does not pass the firewall", said)
		}
		if other := get[spec.Firewall](t, objects, "firewall/102"); other.Open {
			t.Errorf("102 has a firewall: %+v", other)
		}
	}
}

// Bad rules get one error each, at the key.
func TestBadRules(t *testing.T) {
	for rule, want := range map[string]string{
		`{"type": "forward", "action": "DROP"}`:                                        "type",
		`{"type": "in"}`:                                                               "action is missing",
		`{"type": "in", "action": "ALLOW"}`:                                            "action",
		`{"type": "in", "action": "DROP", "port": "80"}`:                               "port",
		`{"type": "in", "action": "DROP", "proto": "icmp", "port": 80}`:                "port",
		`{"type": "in", "action": "DROP", "proto": "tcp", "port": "8O"}`:               "port",
		`{"type": "in", "action": "DROP", "proto": "tcp", "port": 1, "dport": 2}`:      "dport",
		`{"type": "in", "action": "DROP", "proto": "tcp", "sport": "9:1"}`:             "sport",
		`{"type": "in", "action": "DROP", "source": "10.0.0.300"}`:                     "source",
		`{"type": "in", "action": "DROP", "dest": "fe80::1"}`:                          "dest",
		`{"type": "in", "action": "DROP", "proto": "tcp udp"}`:                         "proto",
		`{"type": "in", "action": "DROP", "icmp_type": "echo-request"}`:                "icmp_type",
		`{"type": "in", "action": "DROP", "iface": "a b"}`:                             "iface",
		`{"type": "in", "action": "DROP", "log": "loud"}`:                              "log",
		`{"type": "in", "action": "DROP", "enable": 2}`:                                "enable",
		`{"type": "in", "action": "DROP", "ports": "80"}`:                              "ports",
		`{"type": "group", "action": "a b"}`:                                           "action",
		`{"type": "in", "action": "DROP", "macro": "S S"}`:                             "macro",
		`{"type": "in", "action": "DROP", "comment": "a\nIN ACCEPT"}`:                  "comment",
		`{"type": "in", "action": "DROP", "proto": "tcp", "port": "80", "source": []}`: "source",
	} {
		_, _, diags := walled(t, "102", `{"enabled": true, "rules": [`+rule+`]}`)
		var errs []string
		for _, d := range diags {
			if d.Severity == diag.Error {
				errs = append(errs, d.Path+": "+d.Summary)
			}
		}
		key := "lxc_configs.102.firewall.rules[0]." + want
		if strings.Contains(want, " ") {
			key = "lxc_configs.102.firewall.rules[0]: " + want
		}
		if len(errs) != 1 || !strings.HasPrefix(errs[0], key) {
			t.Errorf("%s: %q, want one at %s", rule, errs, key)
		}
	}
}

// A house of many has more clients than a rule of Proxmox's has room for.
func TestManyClients(t *testing.T) {
	var flows []flow
	for i := range 60 {
		flows = append(flows, flow{from: netip.AddrFrom4([4]byte{10, 0, byte(i), 100}), proto: "tcp", port: 9000,
			why: "clients of the CA"})
	}
	rules := allow(spec.In, flows)
	seen := 0
	for _, r := range rules {
		seen += len(strings.Split(r.Source, ","))
		if len(r.Source) > 512 || r.Ports != "9000" || r.Dest != "" {
			t.Errorf("%+v", r)
		}
	}
	if len(rules) != 3 || seen != 60 {
		t.Errorf("%d rules for %d clients", len(rules), seen)
	}
}
