// Package template keeps root file systems that containers are cloned from. A tree is built by mmdebstrap, or unpacked
// from an archive, owner-shifted into the containers' id map. What was built once is kept as an archive in a cache, by
// content.
package template

import (
	"crypto/sha256"
	_ "embed" // fit.sh
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps templates. It implements provider.Driver and provider.Deleter.
type Driver struct{}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Status is what was seen of a template.
type Status struct {
	Path   string `json:"path"`   // of the tree; empty: there is none
	Inputs string `json:"inputs"` // digest of what the tree was made from
	Wanted string `json:"wanted"` // digest of what it should be made from; empty: unknown, as the archive is gone
}

// fitSource runs in the unpacked tree.
//
//go:embed fit.sh
var fitSource string

// fitScript has the presets added, which keep a first boot from enabling again what the script disables.
var fitScript = fitSource + "\n" + spec.WritePreset()

var (
	plainName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Template, diag.List) {
	s, diags := provider.Decode[spec.Template](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !plainName.MatchString(s.ID) {
		diags.Errorf("%q is no id for a template", s.ID)
	}
	for _, p := range []string{s.Dir, s.Cache, s.Archive} {
		if p != "" && !filepath.IsAbs(p) || s.Dir == "" {
			diags.Errorf("template %s: %q is not an absolute path", s.ID, p)
		}
	}
	if s.Archive == "" && !plainName.MatchString(s.Suite) {
		diags.Errorf("template %s: %q is no Debian suite", s.ID, s.Suite)
	}
	for _, p := range s.Packages {
		if !packageName.MatchString(p) {
			diags.Errorf("template %s: %q is no package name", s.ID, p)
		}
	}
	return s, diags
}

// Diff implements provider.Driver. A template that was made from something else is made anew; its clones stay as they
// are.
func (Driver) Diff(want spec.Template, have *Status) plan.Delta {
	if have == nil || have.Path == "" {
		return plan.Delta{Action: plan.Create, Reason: "the template does not exist"}
	}
	var d plan.Delta
	if have.Wanted != "" {
		d.Compare("inputs", have.Inputs, have.Wanted)
	}
	return d
}

func home(s spec.Template) string   { return filepath.Join(s.Dir, s.ID) }
func tree(s spec.Template) string   { return filepath.Join(home(s), "rootfs") }
func inputs(s spec.Template) string { return filepath.Join(home(s), "inputs") }

// staging is where a template is made before it is renamed into place; what a killed apply left there is removed.
func staging(s spec.Template) string { return filepath.Join(s.Dir, "."+s.ID+".new") }
func retired(s spec.Template) string { return filepath.Join(s.Dir, "."+s.ID+".old") }

// workshop is where mmdebstrap works; apt's own user must get in.
func workshop(s spec.Template) string { return filepath.Join(s.Dir, "."+s.ID+".build") }

func debian(s spec.Template) provider.Debian {
	return provider.Debian{Suite: s.Suite, Mirror: s.Mirror, Packages: s.Packages, Cache: s.Cache, Work: workshop(s)}
}

// treeKey names what a tree is made from: the source (a build key, or an archive's path, size and time), the script,
// the map.
func treeKey(s spec.Template, source string) string {
	return digest([]string{source, fitScript, fmt.Sprint(s.IDMap)})
}

func digest(parts []string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}
