package config

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// homelabWith is the example with keys added to a container.
func homelabWith(t *testing.T, id, keys string) *Config {
	t.Helper()
	var files []File
	for _, name := range []string{"phoenix_hypervisor_config.json", "phoenix_lxc_configs.json"} {
		raw, err := os.ReadFile("../../examples/homelab/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		if at := `"` + id + `": {`; strings.HasPrefix(name, "phoenix_lxc") && keys != "" {
			if !strings.Contains(text, at) {
				t.Fatalf("no container %s", id)
			}
			text = strings.Replace(text, at, at+keys+",", 1)
		}
		files = append(files, File{Name: name, Data: []byte(text)})
	}
	cfg, diags := Load(files)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestListens(t *testing.T) {
	for _, c := range []struct {
		name, id, keys string
		want           []string
		any            bool
	}{
		{"the CA", "103", "", []string{"tcp/9000"}, false},
		{"the gateway", "101", "", []string{"tcp/443", "tcp/80"}, false},
		{"the proxy", "102", "", []string{"tcp/443", "tcp/80", "tcp/8443"}, false},
		{"an application behind a firewall", "201", "", []string{"tcp/80", "tcp/8443"}, false},
		{"ports of the file", "103", `"listens": ["tcp/22", "udp/5000-5010"]`,
			[]string{"tcp/22", "tcp/9000", "udp/5000-5010"}, false},
	} {
		objects, _ := Derive(homelabWith(t, c.id, c.keys), machine)
		r := get[spec.Running](t, objects, object.Address("running/"+c.id))
		if !slices.Equal(r.Listens, c.want) || r.AnyPort != c.any {
			t.Errorf("%s: %q, any port: %v", c.name, r.Listens, r.AnyPort)
		}
	}
	cfg := homelabWith(t, "", "")
	app, _ := cfg.Container("201")
	app.Firewall.Enabled = false
	objects, _ := Derive(cfg, machine)
	if r := get[spec.Running](t, objects, "running/201"); !r.AnyPort || len(r.Listens) > 0 {
		t.Errorf("an application without a firewall: %+v", r)
	}
	app.Listens = Words{"tcp/5432"}
	objects, _ = Derive(cfg, machine)
	if r := get[spec.Running](t, objects, "running/201"); r.AnyPort || !slices.Contains(r.Listens, "tcp/5432") {
		t.Errorf("an application that says where it listens: %+v", r)
	}
}

func TestListensByRules(t *testing.T) {
	in := spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: "tcp"}
	for _, c := range []struct {
		change func(*spec.Rule)
		want   []string
	}{
		{func(r *spec.Rule) { r.Ports = "22,8000:8010" }, []string{"tcp/22", "tcp/8000-8010"}},
		{func(r *spec.Rule) {}, []string{"tcp/1-65535"}},
		{func(r *spec.Rule) { r.Direction = spec.Out }, nil},
		{func(r *spec.Rule) { r.Action = spec.Drop }, nil},
		{func(r *spec.Rule) { r.Proto = "icmp" }, nil},
	} {
		r := in
		c.change(&r)
		if got := listensBy(r); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q", r, got)
		}
	}
}

// What the template brings stays disabled unless an object asks for it; it is stopped where phoenix's role is all
// there is.
func TestPresets(t *testing.T) {
	for id, want := range map[string]struct {
		nginx bool // is left disabled by the preset
		units []string
	}{
		"101": {false, []string{spec.UnitFetch, spec.UnitUpgrade}},
		"102": {true, []string{spec.UnitNginx, spec.UnitFetch, spec.UnitUpgrade}},
		"103": {true, []string{spec.UnitNginx, spec.UnitFetch, spec.UnitUpgrade}},
		"201": {false, nil},
	} {
		objects, _ := Derive(homelabWith(t, "", ""), machine)
		f := get[spec.File](t, objects, object.Address("file/"+id+spec.PresetPath))
		if strings.Contains(f.Content, "disable nginx.service\n") != want.nginx ||
			!strings.Contains(f.Content, "disable apt-daily.timer\n") {
			t.Errorf("%s has\n%s", id, f.Content)
		}
		var stopped []string
		for _, o := range objects {
			if o.Container == id && o.Address.Kind() == spec.KindUnit && get[spec.Unit](t, objects, o.Address).Stopped {
				stopped = append(stopped, o.Address.Name())
			}
		}
		if !slices.Equal(stopped, want.units) {
			t.Errorf("%s stops %q", id, stopped)
		}
	}
	cfg := homelabWith(t, "103", `"packages": ["unattended-upgrades"]`)
	objects, _ := Derive(cfg, machine)
	if _, found := object.Find(objects, "unit/103/apt-daily.timer"); found {
		t.Error("a container with packages of the users' loses its timers")
	}
}

func TestListensIsChecked(t *testing.T) {
	raw, err := os.ReadFile("../../examples/homelab/phoenix_lxc_configs.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), `"201": {`, `"201": {"listens": ["tcp/0", "22", "all", "tcp/5-4", "tcp/22"],`,
		1)
	_, diags := Load([]File{{Name: "phoenix_lxc_configs.json", Data: []byte(text)}})
	n := 0
	for _, d := range diags {
		if strings.Contains(d.Path, "listens") {
			n++
		}
	}
	if n != 4 {
		t.Errorf("%d problems, want 4: %v", n, diags)
	}
}
