package config_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// FuzzLoad: never a panic, always the same answer, a Config exactly where there is no error, every diagnostic about a
// file with a line that is in it, and nothing accepted that is not JSON.
func FuzzLoad(f *testing.F) {
	cases, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil || len(cases) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range cases {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		files, _ := filesOf(a)
		f.Add(files[0].Data, files[len(files)-1].Data)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		files := []config.File{{Name: "one", Data: one}, {Name: "two", Data: two}}
		cfg, diags := config.Load(files)
		if (cfg == nil) != diags.HasErrors() {
			t.Fatalf("config is %v with %v", cfg, diags)
		}
		lines := map[string]int{"one": bytes.Count(one, []byte("\n")) + 1, "two": bytes.Count(two, []byte("\n")) + 1,
			"": 0}
		for _, d := range diags {
			if last, known := lines[d.File]; !known || d.Line > last || d.File != "" && d.Line < 1 || d.Summary == "" {
				t.Fatalf("a diagnostic is out of place: %+v", d)
			}
		}
		if cfg != nil && (!json.Valid(bytes.TrimPrefix(one, []byte("\ufeff"))) ||
			!json.Valid(bytes.TrimPrefix(two, []byte("\ufeff")))) {
			t.Fatal("accepted what is not JSON")
		}
		again, diagsAgain := config.Load(files)
		if !reflect.DeepEqual(cfg, again) || !reflect.DeepEqual(diags, diagsAgain) {
			t.Fatalf("loaded again:\n%s\nfirst:\n%s", text(diagsAgain), text(diags))
		}
	})
}
