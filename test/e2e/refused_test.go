package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// edit changes one container's entry, an empty one if there is none, of the
// hypervisor's own copy of the file and returns the file's lines.
func (h *Hypervisor) edit(id string, change func(container map[string]any)) []string {
	h.t.Helper()
	file := filepath.Join(h.Config, "phoenix_lxc_configs.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	var doc struct {
		Containers map[string]map[string]any `json:"lxc_configs"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		h.t.Fatal(err)
	}
	if doc.Containers[id] == nil {
		doc.Containers[id] = map[string]any{}
	}
	change(doc.Containers[id])
	if raw, err = json.MarshalIndent(doc, "", "  "); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		h.t.Fatal(err)
	}
	return strings.Split(string(raw), "\n")
}

// wantUntouched checks that a refused command left no trace.
func (h *Hypervisor) wantUntouched() {
	h.t.Helper()
	if links := h.Links(); len(links) != 0 {
		h.t.Errorf("interfaces were made: %v", links)
	}
	if hasFile(h.Root) {
		h.t.Errorf("files were made\n%s", h.Exec("find", h.Root))
	}
}

// A directory that two containers would share is refused, with the rule and
// the line, before anything is touched.
func TestSharingIsRefused(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	shared := "/srv/phoenix-e2e/shared/ssl"
	mount := []any{map[string]any{"host_path": shared, "container_path": "/mnt/shared"}}
	h.edit("101", func(c map[string]any) { c["mount_points"] = mount })
	lines := h.edit("103", func(c map[string]any) { c["mount_points"] = mount })
	var places []string
	for i, line := range lines {
		if strings.Contains(line, shared) {
			places = append(places, fmt.Sprintf("phoenix_lxc_configs.json:%d", i+1))
		}
	}
	for _, command := range [][]string{{"validate"}, {"create", "103"}, {"up"}} {
		r := h.Phoenix(command...).Want(78)
		said := r.Stdout + r.Stderr
		if !regexp.MustCompile(`\bPHX-[A-Z]+-[0-9]{3}\b`).MatchString(said) {
			t.Errorf("no rule id\n%s", r)
		}
		named := func(place string) bool {
			return regexp.MustCompile(regexp.QuoteMeta(place) + `\b`).MatchString(said)
		}
		if !slices.ContainsFunc(places, named) {
			t.Errorf("none of %v is named\n%s", places, r)
		}
	}
	h.wantUntouched()
}

// An artifact whose checksum does not match stops everything before anything
// is changed.
func TestWrongArtifactIsRefused(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	parts := need(t)
	file := filepath.Join(h.Config, "phoenix_hypervisor_config.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wrong := fmt.Sprintf(`{"artifacts": {"step-ca": {"path": %q, "sha256": %q}},`, parts.artifacts["step-ca"],
		strings.Repeat("0", 64))
	if err := os.WriteFile(file, []byte(strings.Replace(string(raw), "{", wrong, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	r := h.Phoenix("create", "103")
	if r.Exit == 0 || !strings.Contains(r.Stderr, "sha256") || !strings.Contains(r.Stderr, "step-ca") {
		t.Errorf("want a refusal that names the artifact and sha256\n%s", r)
	}
	h.wantUntouched()
}
