package config

import (
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// The key derives one object of the gateway's container; without it there is none, unless something is left to remove.
func TestAccess(t *testing.T) {
	cfg := homelab(t)
	if cfg.Hypervisor.Access != spec.AccessNone {
		t.Errorf("the default is %q", cfg.Hypervisor.Access)
	}
	if _, ok := object.Find(derive(t, cfg), "access/phxbr0"); ok {
		t.Error("nobody asked for access from the LAN")
	}
	left := machine
	left.Access = true
	objects, _ := Derive(cfg, left)
	if s := get[spec.Access](t, objects, "access/phxbr0"); s.Mode != spec.AccessNone || s.State != AccessState(cfg,
		machine.Root) {
		t.Errorf("%+v", s)
	}
	cfg.Hypervisor.Access = spec.AccessForward
	s := get[spec.Access](t, derive(t, cfg), "access/phxbr0")
	if s.Gateway != "10.86.17.101" || strings.Join(s.Ports, " ") != "tcp/80 tcp/443" || s.Subnet != "10.86.17.0/24" {
		t.Errorf("%+v", s)
	}
	if o, _ := object.Find(derive(t, cfg), "access/phxbr0"); o.Container != "101" || len(o.After) != 1 ||
		o.After[0] != "network/phxbr0" {
		t.Errorf("%+v", o)
	}
	other := machine
	other.Root = "/elsewhere"
	if elsewhere, _ := Derive(cfg, other); get[spec.Access](t, elsewhere, "access/phxbr0").Table() == s.Table() {
		t.Error("two roots share a table")
	}
	cfg.Hypervisor.Access = spec.AccessRoute
	if s := get[spec.Access](t, derive(t, cfg), "access/phxbr0"); s.Mode != spec.AccessRoute || s.Gateway != "" ||
		len(s.Ports) > 0 {
		t.Errorf("%+v", s)
	}
}

func TestAccessWithoutGateway(t *testing.T) {
	cfg := homelab(t)
	cfg.Hypervisor.Access = spec.AccessForward
	for _, c := range cfg.Containers {
		c.Network.Bridge = "other0"
	}
	objects, diags := Derive(cfg, machine)
	if _, ok := object.Find(objects, "access/phxbr0"); ok || !diags.HasErrors() ||
		!strings.Contains(diags.Err().Error(), "access: forward needs a gateway") {
		t.Error(diags)
	}
}

// A change of the key opens, closes or moves a way in: it waits for a person.
func TestAccessWaitsForAPerson(t *testing.T) {
	cfg := homelab(t)
	before := derive(t, cfg)
	cfg.Hypervisor.Access = spec.AccessForward
	after := derive(t, cfg)
	_, waiting := Unattended(before, after, true)
	if len(waiting) != 1 || waiting[0].Address != "access/phxbr0" {
		t.Errorf("%+v", waiting)
	}
	left := machine
	left.Access = true
	cfg.Hypervisor.Access = spec.AccessNone
	none, _ := Derive(cfg, left)
	keeps, waiting := Unattended(after, none, true)
	if s := get[spec.Access](t, keeps, "access/phxbr0"); len(waiting) != 1 || s.Mode != spec.AccessForward {
		t.Errorf("%+v %+v", waiting, s)
	}
}

// A new root is limited to the zones and the bridge's subnet, and to what the file says besides; all: it is not.
func TestRootPermits(t *testing.T) {
	for _, c := range []struct{ value, permits string }{
		{`"root_permits": []`, "10.86.17.0/24"}, {`"root_permits": ["10.9.0.0/16", "Later.example"]`,
			"10.86.17.0/24 10.9.0.0/16 later.example"},
		{`"root_permits": "all"`, ""},
	} {
		cfg, diags := homelabAnd(t, c.value)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		s := get[spec.StepCA](t, derive(t, cfg), "stepca/103")
		if got := strings.Join(s.RootPermits, " "); got != c.permits || s.RootOpen != (c.permits == "") {
			t.Errorf("%s: %q, open %v", c.value, got, s.RootOpen)
		}
	}
	if _, diags := homelabAnd(t, `"root_permits": ["10.9.0.0/99", "*.example", "no name"]`); len(diags) < 3 ||
		!diags.HasErrors() {
		t.Error(diags)
	}
}

// homelabAnd is the sample with one more key of step_ca.
func homelabAnd(t *testing.T, key string) (*Config, diag.List) {
	t.Helper()
	var files []File
	for _, name := range []string{"phoenix_hypervisor_config.json", "phoenix_lxc_configs.json"} {
		raw, err := os.ReadFile("../../examples/homelab/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, File{Name: name, Data: []byte(strings.Replace(string(raw), `"step_ca": {`,
			`"step_ca": { `+key+`,`, 1))})
	}
	return Load(files)
}
