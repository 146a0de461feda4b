package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/tools/txtar"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// schemas are the compiled ones: of the containers' file, and of the hypervisor's.
func schemas(t *testing.T) (out [2]*jsonschema.Schema) {
	t.Helper()
	for i := range out {
		text, err := config.SchemaOf(i == 1)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("file.json", doc); err != nil {
			t.Fatal(err)
		}
		if out[i], err = c.Compile("file.json"); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// refused is what the schema of its kind has against a file; nil: nothing.
func refused(t *testing.T, s [2]*jsonschema.Schema, f config.File) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(f.Data))
	if err != nil {
		return err
	}
	kind := 1
	if m, ok := doc.(map[string]any); ok && m["lxc_configs"] != nil {
		kind = 0
	}
	return s[kind].Validate(doc)
}

// What Load takes the schema takes: an editor must not call good files bad.
func TestSchemaTakesWhatLoadTakes(t *testing.T) {
	s, taken := schemas(t), 0
	check := func(name string, files []config.File) {
		if _, diags := config.Load(files); diags.HasErrors() {
			return
		}
		for _, f := range files {
			taken++
			if err := refused(t, s, f); err != nil {
				t.Errorf("%s: %s: %v", name, f.Name, err)
			}
		}
	}
	var example []config.File
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		data, err := os.ReadFile(filepath.Join("../../examples/homelab", name))
		if err != nil {
			t.Fatal(err)
		}
		example = append(example, config.File{Name: name, Data: data})
	}
	check("the example", example)
	archives, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range archives {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var files []config.File
		for _, f := range a.Files {
			if strings.HasSuffix(f.Name, ".json") {
				files = append(files, config.File{Name: f.Name, Data: f.Data})
			}
		}
		check(name, files)
	}
	if taken < 4 {
		t.Errorf("only %d files were looked at", taken)
	}
	t.Run("users' own", func(t *testing.T) {
		check("own", []config.File{usersFile(t, "lxc-own-directories.json"), usersFile(t, "hypervisor.json")})
	})
}

// Each of these changes to the example is refused by both.
func TestSchemaRefuses(t *testing.T) {
	s := schemas(t)
	data, err := os.ReadFile("../../examples/homelab/phoenix_lxc_configs.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := refused(t, s, config.File{Data: data}); err != nil {
		t.Fatal(err)
	}
	for old, new := range map[string]string{
		`"unprivileged": true`:    `"unprivileged": "yes"`,
		`"memory_mb"`:             `"memory_bm"`,
		`"bridge": "phxbr0"`:      `"bridge": 7`,
		`"cores": 1`:              `"cores": 0`,
		`"52:54:00`:               `"52:54:zz`,
		`"ip": "10.86.17.103/24"`: `"ip": "10.86.17.103"`,
		`"features": [`:           `"features": [7, `,
	} {
		if !bytes.Contains(data, []byte(old)) {
			t.Errorf("the example has no %s", old)
			continue
		}
		changed := bytes.Replace(data, []byte(old), []byte(new), 1)
		if refused(t, s, config.File{Data: changed}) == nil {
			t.Errorf("%s in place of %s is taken", new, old)
		}
	}
}
