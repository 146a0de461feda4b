package config

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// editable are the files of the example, with comments that are not formatted as the rest.
func editable(t *testing.T, change func(string) string) []File {
	t.Helper()
	var out []File
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		data, err := os.ReadFile("../../examples/homelab/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(data), "{", `{ "_about": "ours",   "_x": [1,2 ],`, 1)
		out = append(out, File{Name: name, Data: []byte(change(text))})
	}
	return out
}

func asIs(s string) string { return s }

// editedFiles applies an edit; every line of the old files is to be in the new ones but for a comma at its end.
func editedFiles(t *testing.T, e AppEdit) []File {
	t.Helper()
	var out []File
	for _, f := range e.Files {
		rest := strings.Split(string(f.New), "\n")
		for _, line := range strings.Split(string(f.Old), "\n") {
			i := 0
			for i < len(rest) && strings.TrimRight(rest[i], ",\r") != strings.TrimRight(line, ",\r") {
				i++
			}
			if i == len(rest) {
				t.Fatalf("%s: the line %q is gone, or not in its place:\n%s", f.Name, line, f.New)
			}
			rest = rest[i+1:]
		}
		out = append(out, File{Name: f.Name, Data: f.New})
	}
	return out
}

// What is added is valid and keeps the rest; a second run changes nothing; what is removed leaves the files as they
// were, byte for byte.
func TestAddAndRemoveApp(t *testing.T) {
	windows := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for name, want := range map[string]NewApp{
		"chosen": {Name: "wiki", Port: 8080},
		"https":  {Name: "wiki", Port: 8443, Scheme: "https"},
		"given": {Name: "wiki", Port: 80, ID: "305", Host: "docs.homelab.internal", CloneFrom: "900",
			Address: netip.MustParseAddr("10.86.17.77")},
	} {
		for style, change := range map[string]func(string) string{"unix": asIs, "windows": windows} {
			t.Run(name+" "+style, func(t *testing.T) {
				files := editable(t, change)
				first, diags := AddApp(files, want)
				if diags.HasErrors() || !first.Changed() || first.After.HasErrors() || first.Exists {
					t.Fatalf("%+v, %v", first, diags)
				}
				after := editedFiles(t, first)
				if style == "windows" && bytes.Count(after[0].Data, []byte("\n")) !=
					bytes.Count(after[0].Data, []byte("\r\n")) {
					t.Error("lines end in two ways")
				}
				cfg, _ := Load(after)
				x, ok := cfg.Container(first.ID)
				if !ok || x.Name != "wiki" || x.TraefikService.Port != want.Port || !x.Firewall.Enabled ||
					x.Network.Address.Addr().String() != first.Address || x.MAC == "" ||
					(want.Scheme == "https") != (len(x.Certificates) == 1 && len(x.Volumes) == 1) {
					t.Errorf("%+v", x)
				}
				if name != "given" && (first.ID != "202" || first.Address != "10.86.17.202") {
					t.Errorf("id %s, address %s", first.ID, first.Address)
				}
				objects, diags := Derive(cfg, Machine{Runtime: "lxc", Root: "/var/lib/phoenix", FirstRoot: true})
				if diags.HasErrors() || len(objects) < 40 {
					t.Errorf("%d objects, %v", len(objects), diags)
				}
				if again, diags := AddApp(after, want); diags.HasErrors() || again.Changed() || !again.Exists {
					t.Errorf("a second run: %+v, %v", again, diags)
				}
				back, diags := RemoveApp(after, "wiki")
				if diags.HasErrors() || back.ID != first.ID {
					t.Fatalf("%+v, %v", back, diags)
				}
				for _, f := range back.Files {
					for _, old := range files {
						if old.Name == f.Name && !bytes.Equal(old.Data, f.New) {
							t.Errorf("%s is not as it was:\n%s", f.Name, f.New)
						}
					}
				}
			})
		}
	}
}

// Where the first run ended between the two files, the next one goes on.
func TestAddAndRemoveAppGoOn(t *testing.T) {
	want := NewApp{Name: "wiki", Port: 8443, Scheme: "https"}
	files := editable(t, asIs)
	first, diags := AddApp(files, want)
	if diags.HasErrors() || len(first.Files) != 2 {
		t.Fatal(diags)
	}
	half := []File{{first.Files[0].Name, first.Files[0].New}, {first.Files[1].Name, first.Files[1].Old}}
	rest, diags := AddApp(half, want)
	if diags.HasErrors() || rest.ID != first.ID || !bytes.Equal(rest.Files[1].New, first.Files[1].New) {
		t.Errorf("%+v, %v", rest, diags)
	}
	back, diags := RemoveApp(editedFiles(t, first), "wiki")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	half = []File{{back.Files[0].Name, back.Files[0].New}, {back.Files[1].Name, back.Files[1].Old}}
	rest, diags = RemoveApp(half, "wiki")
	if diags.HasErrors() || rest.ID != first.ID || !bytes.Equal(rest.Files[1].New, back.Files[1].New) {
		t.Errorf("%+v, %v", rest, diags)
	}
	if none, diags := RemoveApp(files, "wiki"); diags.HasErrors() || none.ID != "" || none.Changed() {
		t.Errorf("%+v, %v", none, diags)
	}
}

// All that is taken is told at once, each with its place.
func TestAddAppTellsWhatIsTaken(t *testing.T) {
	files := editable(t, asIs)
	lineOf := func(file int, part string) int {
		before, _, ok := strings.Cut(string(files[file].Data), part)
		if !ok {
			t.Fatalf("no %q", part)
		}
		return strings.Count(before, "\n") + 1
	}
	_, diags := AddApp(files, NewApp{Name: "wiki", Port: 80, ID: "102", Host: "ca.homelab.internal", CloneFrom: "901",
		Address: netip.MustParseAddr("10.86.17.201")})
	for _, want := range []struct {
		text, file string
		line       int
	}{
		{"the id 102 is taken", files[0].Name, lineOf(0, `"102": {`)},
		{"the address 10.86.17.201 is taken", files[0].Name, lineOf(0, `"ip": "10.86.17.201/24"`)},
		{"the name ca.homelab.internal is taken: it leads to", files[1].Name, lineOf(1, `"hostname": "ca"`)},
		{"container 901 to clone from", files[0].Name, lineOf(0, `"lxc_configs"`)},
	} {
		found := false
		for _, d := range diags {
			found = found || strings.Contains(d.Summary, want.text) && d.File == want.file && d.Line == want.line
		}
		if !found {
			t.Errorf("not told: %s at %s:%d, but %v", want.text, want.file, want.line, diags)
		}
	}
	for _, c := range []struct {
		want NewApp
		text string
	}{
		{NewApp{Name: "hello", Port: 80}, "the name hello is taken: container 201 has port 8443, not 80"},
		{NewApp{Name: "nginx", Port: 80}, "no traefik_service"},
		{NewApp{Name: "wiki", Port: 80, Host: "hello.homelab.internal"}, "routed to container 201"},
		{NewApp{Name: "wiki", Port: 80, Host: "wiki.elsewhere.internal"}, "in no zone"},
		{NewApp{Name: "wiki", Port: 80, ID: "305", Taken: map[string]string{"305": "a guest"}}, "305 is taken: a guest"},
		{NewApp{Name: "wiki", Port: 80, Address: netip.MustParseAddr("10.9.9.9")}, "not one of the bridge's"},
	} {
		if e, diags := AddApp(files, c.want); e.Changed() || !strings.Contains(diags.Err().Error(), c.text) {
			t.Errorf("%+v: %v", c.want, diags)
		}
	}
	needed := editable(t, func(s string) string {
		return strings.Replace(s, `"dependencies": ["103"]`, `"dependencies": ["103", "201"]`, 1)
	})
	for name, text := range map[string]string{"nginx": "no application", "hello": "depends on 201"} {
		if e, diags := RemoveApp(needed, name); e.Changed() || !strings.Contains(diags.Err().Error(), text) {
			t.Errorf("%s: %v", name, diags)
		}
	}
	e, diags := AddApp(files, NewApp{Name: "wiki", Port: 80, Taken: map[string]string{"202": "left"}})
	if diags.HasErrors() || e.ID != "203" {
		t.Errorf("%s, %v", e.ID, diags)
	}
}
