package script

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Status is what ran.
type Status struct {
	SHA256 string `json:"sha256"` // of the content that last ended well
}

// Observe implements provider.Driver.
func (dr Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Script) (*Status, error) {
	b, err := h.ReadFile(dr.path(s) + markSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &Status{SHA256: strings.TrimSpace(string(b))}, nil
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Script, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the script has not run"}
	}
	var d plan.Delta
	if d.Compare("sha256", have.SHA256, want.SHA256); !d.Empty() {
		d.Reason = "the script has changed since it ran"
	}
	return d
}
