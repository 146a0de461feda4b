package traefik

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps traefik objects true. The zero value is ready.
type Driver struct{}

// New gives the driver for the engine.
func New() provider.Erased { return provider.New[spec.Traefik, Status](Driver{}) }

// fieldInputs is the status field that Traefik's unit needs, and what a delta says of it.
const fieldInputs = "inputs"

// Status is what was seen of one part.
type Status struct {
	// Inputs is the digest of what Traefik reads at its start, as it is on disk.
	Inputs       string        `json:"inputs,omitempty"`
	Files        []File        `json:"files,omitempty"`
	Broken       bool          `json:"broken,omitempty"`       // the storage cannot be read
	Unchecked    bool          `json:"unchecked,omitempty"`    // a file that was being checked is left behind
	Certificates []Certificate `json:"certificates,omitempty"` // what is served, one for each host
	Trust        string        `json:"trust,omitempty"`        // why Traefik does not know the roots as they are now
	Covered      bool          `json:"covered,omitempty"`      // another one still stands in for it
	Routes       []Route       `json:"routes,omitempty"`       // what is loaded
	Accounts     []string      `json:"accounts,omitempty"`     // thumbprints of the account and those before it
}

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Traefik, diag.List) { return decode(raw) }

// Observe implements provider.Driver.
func (Driver) Observe(ctx context.Context, h host.Host, a object.Address, s spec.Traefik) (*Status, error) {
	if s.Fingerprint == "" {
		return nil, provider.Permanent(fmt.Errorf("%s: no root fingerprint is pinned, so no certificate can be trusted",
			a))
	}
	if s.Part == spec.TraefikCertificates {
		return observeServed(ctx, h, s)
	}
	return observeFiles(ctx, h, s)
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Traefik, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "missing",
			Fields: []plan.Field{{Path: staticFile(want), Want: "present"}}}
	}
	if want.Part == spec.TraefikCertificates {
		return diffServed(have)
	}
	return diffFiles(want, have)
}

// Apply implements provider.Driver.
func (Driver) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.Traefik, _ plan.Delta) error {
	if s.Part == spec.TraefikCertificates {
		return applyServed(ctx, h, s)
	}
	return applyFiles(ctx, h, s)
}

// Next implements provider.Scheduler: when Traefik should have renewed the first of its certificates.
func (Driver) Next(_ spec.Traefik, have *Status) time.Time {
	var next time.Time
	if have == nil {
		return next
	}
	for _, c := range have.Certificates {
		if c.Problem == "" && (next.IsZero() || c.OverdueAt.Before(next)) {
			next = c.OverdueAt
		}
	}
	return next
}
