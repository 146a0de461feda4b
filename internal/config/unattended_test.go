package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// edited is the homelab with one text replaced by another in either file.
func edited(t *testing.T, from, to string) []object.Object {
	t.Helper()
	var files []File
	hits := 0
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		b, err := os.ReadFile(filepath.Join("../../examples/homelab", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if from != "" && strings.Contains(text, from) {
			text = strings.Replace(text, from, to, 1)
			hits++
		}
		files = append(files, File{Name: name, Data: []byte(text)})
	}
	if from != "" && hits != 1 {
		t.Fatalf("%q stands in %d files", from, hits)
	}
	cfg, diags := Load(files)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	return derive(t, cfg)
}

// A saved file is applied by itself only as far as it interrupts nothing, closes nothing and removes nothing.
func TestUnattended(t *testing.T) {
	const www = `{ "hostname": "www", "ip_internal": "10.86.17.101" }`
	applied := edited(t, "", "")
	for _, c := range []struct {
		name, from, to string
		waits          []object.Address // some of those that must
		free           bool             // none may
	}{
		{"nothing", "", "", nil, true},
		{"a name more", www, `{ "hostname": "shop", "ip_internal": "10.86.17.101" }, ` + www, nil, true},
		{"a name more, the shortest", www, `{ "hostname": "a", "ip_internal": "10.86.17.101" }, ` + www, nil, true},
		{"a name less", www + ",", "", []object.Address{"dns/phxbr0", "nginx/101/base", "nginx/101/tls", "stepca/103"},
			false},
		{"a name leads elsewhere", www, `{ "hostname": "www", "ip_internal": "10.86.17.201" }`,
			[]object.Address{"dns/phxbr0"}, false},
		{"a container's name", `"name": "nginx",`, `"name": "edge",`,
			[]object.Address{"container/101", "file/101/etc/hosts"}, false},
		{"a role less", `"nginx_gateway"`, `"base_setup"`, []object.Address{"nginx/101/tls", "unit/101/nginx.service"},
			false},
		{"another upstream", `"9.9.9.9"`, `"9.9.9.10"`, []object.Address{"dns/phxbr0"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			wanted := edited(t, c.from, c.to)
			merged, waiting := Unattended(applied, wanted, true)
			var have []object.Address
			for _, w := range waiting {
				have = append(have, w.Address)
			}
			if c.free != (len(have) == 0) ||
				slices.ContainsFunc(c.waits, func(a object.Address) bool { return !slices.Contains(have, a) }) {
				t.Errorf("waiting %v, want %v (none: %t)", waiting, c.waits, c.free)
			}
			wantUntouched(t, applied, merged, have)
			all, none := Unattended(applied, wanted, false)
			if c.from != "" && len(none) == 0 {
				t.Error("something is applied though nothing may be")
			}
			for _, o := range applied {
				x, ok := object.Find(all, o.Address)
				if !ok || !same(o, x) {
					t.Errorf("apply none: %s is another", o.Address)
				}
			}
		})
	}
}

// wantUntouched wants what waits to be as it was applied, also in the lists of the containers' daemons.
func wantUntouched(t *testing.T, applied, merged []object.Object, waiting []object.Address) {
	t.Helper()
	for _, a := range waiting {
		was, known := object.Find(applied, a)
		is, ok := object.Find(merged, a)
		if known != ok || known && !same(was, is) {
			t.Errorf("%s waits, and is another", a)
		}
		if was.Host == "" {
			continue
		}
		if before, after := inList(t, applied, was), inList(t, merged, was); before != after {
			t.Errorf("%s waits, and the daemon keeps\n%s\nwhere it kept\n%s", a, after, before)
		}
	}
}

func inList(t *testing.T, objects []object.Object, o object.Object) string {
	t.Helper()
	list := get[spec.Agent](t, objects, object.NewAddress(spec.KindAgent, o.Container))
	x, ok := object.Find(list.Objects, o.Address)
	if !ok {
		return ""
	}
	raw, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// What a container's list needs from outside is filled in where it belongs, whatever entries were taken from which
// list.
func TestUnattendedListNeeds(t *testing.T) {
	applied := edited(t, "", "")
	wanted := edited(t, `{ "hostname": "www", "ip_internal": "10.86.17.101" },`, "")
	merged, _ := Unattended(applied, wanted, true)
	for _, o := range merged {
		if o.Address.Kind() != spec.KindAgent {
			continue
		}
		list := get[spec.Agent](t, merged, o.Address)
		was, _ := object.Find(applied, o.Address)
		if len(o.Needs) != len(was.Needs) {
			t.Errorf("%s has %d needs, had %d", o.Address, len(o.Needs), len(was.Needs))
		}
		for _, n := range o.Needs {
			filled, err := object.Fill(o.Spec, n.Into, "f")
			if err != nil {
				t.Errorf("%s: %s: %v", o.Address, n.Into, err)
			}
			var got spec.Agent
			if err := json.Unmarshal(filled, &got); err != nil {
				t.Fatal(err)
			}
			changed := slices.IndexFunc(got.Objects, func(x object.Object) bool {
				y, _ := object.Find(list.Objects, x.Address)
				return string(x.Spec) != string(y.Spec)
			})
			if changed < 0 || n.From.Kind() != spec.KindPin {
				t.Errorf("%s: %v fills nothing", o.Address, n)
			}
		}
	}
}

func TestWithoutSecrets(t *testing.T) {
	in := `{"a": {"api_token": "hunter2", "other": 1}, "list": [{"password": "NOT_SET"}], "url": "https://me:hunter2@host/x"}`
	out := string(WithoutSecrets(File{Name: "f", Data: []byte(in)}))
	if strings.Contains(out, "hunter2") || !strings.Contains(out, `"other": 1`) || !strings.Contains(out, "NOT_SET") ||
		!json.Valid([]byte(out)) {
		t.Error(out)
	}
	if again := string(WithoutSecrets(File{Name: "f", Data: []byte(out)})); again != out {
		t.Errorf("%s\nthen %s", out, again)
	}
	if back, missing := WithSecretsOf([]byte(out), []byte(in)); string(back) != in || len(missing) > 0 {
		t.Errorf("%s, missing %v", back, missing)
	}
	if _, missing := WithSecretsOf([]byte(out), []byte(`{"a": {}}`)); !slices.Equal(missing,
		[]string{"a.api_token", "url"}) {
		t.Errorf("missing %v", missing)
	}
	if got := WithoutSecrets(File{Name: "f", Data: []byte(`{"password": "hunter2"`)}); len(got) != 0 {
		t.Errorf("%s", got)
	}
}
