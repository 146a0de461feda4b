// Package sysctl raises limits of the kernel that all containers share, now and at each boot (sysctl.d(5)). It never
// lowers one: neither a value that runs, nor what another file will set at the next boot.
package sysctl

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps limits. Others' files stay as they are.
type Driver struct {
	proc string   // where the kernel has the values
	dirs []string // of sysctl.d(5): a file in an earlier one hides those of its name in later ones
	conf string   // sysctl.conf(5), which is read last
}

// New gives the driver without its types.
func New() provider.Erased {
	return provider.New(Driver{
		proc: "/proc/sys", conf: "/etc/sysctl.conf",
		dirs: []string{"/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d",
			"/lib/sysctl.d"},
	})
}

// Status is what was seen. Keys that this kernel does not have are in none of the maps.
type Status struct {
	Now    map[string]int64 `json:"now"`
	Own    map[string]int64 `json:"own"`    // in phoenix's file; nil: there is none
	Others map[string]int64 `json:"others"` // what all other files together set at a boot
	File   string           `json:"file"`   // text of phoenix's file
}

var plainKey = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)+$`)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Sysctl, diag.List) {
	s, diags := provider.Decode[spec.Sysctl](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !filepath.IsAbs(s.Path) || filepath.Ext(s.Path) != ".conf" {
		diags.Errorf("%q is no file of sysctl.d", s.Path)
	}
	for _, l := range s.Least {
		if !plainKey.MatchString(l.Key) || l.Value <= 0 {
			diags.Errorf("%q: %d is no limit of the kernel", l.Key, l.Value)
		}
	}
	return s, diags
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Sysctl, have *Status) plan.Delta {
	var d plan.Delta
	for _, l := range want.Least {
		if now, ok := have.Now[l.Key]; ok && now < l.Value {
			d.Compare(l.Key, strconv.FormatInt(now, 10), strconv.FormatInt(l.Value, 10))
		}
	}
	file := wanted(want, have)
	for _, l := range want.Least {
		d.Compare(l.Key+" at boot", number(have.Own, l.Key), number(file, l.Key))
	}
	if text := render(want, file); d.Empty() && have.File != text {
		d.Compare("file", "edited", "as phoenix wrote it")
	}
	if !d.Empty() {
		d.Reason = "limits that all containers share are low"
	}
	return d
}

func number(values map[string]int64, key string) string {
	if v, ok := values[key]; ok {
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// wanted are the values that phoenix's file should have: none of a key that the other files set high enough, or that
// the kernel itself does. A value that was raised by hand is kept, so that reading all files again does not lower it.
func wanted(s spec.Sysctl, have *Status) map[string]int64 {
	out := map[string]int64{}
	for _, l := range s.Least {
		now, known := have.Now[l.Key]
		own, ours := have.Own[l.Key]
		switch {
		case !known, have.Others[l.Key] >= l.Value:
		case l.Computed && now >= l.Value && !ours:
		default:
			out[l.Key] = max(l.Value, now, own)
		}
	}
	return out
}
