package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// ActedOn drops the notes about keys that this runtime acts on, of those that Load notes as kept.
func ActedOn(list diag.List, runtime string) diag.List {
	acted := map[string]bool{}
	for prefix, t := range map[string]reflect.Type{
		"lxc_configs.*.": reflect.TypeFor[Container](), "lxc_configs.*.zfs_volumes[*].": reflect.TypeFor[Volume](),
	} {
		for key, f := range keys(t) {
			acted[prefix+key] = f.Tag.Get("acted") == runtime
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(d diag.Diagnostic) bool {
		return d.Severity == diag.Note && strings.HasPrefix(d.Summary, keptSummary) && acted[d.Path]
	})
}

// keptSummary is how the notes about kept keys begin.
const keptSummary = "kept, not acted on: "
