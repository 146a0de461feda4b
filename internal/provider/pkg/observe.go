package pkg

import (
	"bytes"
	"context"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

const (
	database  = "/var/lib/dpkg/status"
	installed = "installed"
	absent    = "absent"
)

// Status has the state of each named package as dpkg calls it (the third word of its Status field), absent where dpkg
// does not know it.
type Status struct {
	States map[string]string `json:"states"`
}

// Observe implements provider.Driver.
func (Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Package) (*Status, error) {
	b, err := h.ReadFile(database)
	if err != nil {
		return nil, err
	}
	return &Status{States: states(b, s.Names)}, nil
}

// states reads deb-status paragraphs (dpkg's lib/dpkg/parse.c). A package that is there for several architectures is
// installed if one of them is.
func states(status []byte, names []string) map[string]string {
	out := make(map[string]string, len(names))
	for _, n := range names {
		out[n] = absent
	}
	for paragraph := range bytes.SplitSeq(status, []byte("\n\n")) {
		name := field(paragraph, "Package: ")
		have, wanted := out[name]
		if !wanted || have == installed {
			continue
		}
		if words := strings.Fields(field(paragraph, "Status: ")); len(words) == 3 {
			out[name] = words[2]
		}
	}
	return out
}

// field gives the rest of the paragraph's line that begins with key.
func field(paragraph []byte, key string) string {
	for line := range bytes.SplitSeq(paragraph, []byte("\n")) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			return string(bytes.TrimSpace(rest))
		}
	}
	return ""
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Package, have *Status) plan.Delta {
	var d plan.Delta
	for _, n := range want.Names {
		d.Compare(n, have.States[n], installed)
	}
	return d
}
