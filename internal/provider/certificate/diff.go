package certificate

import (
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Paths of a delta's fields.
const (
	fieldCertificate = "certificate" // issue a new one
	fieldServed      = "served"      // reload
	fieldReload      = "reload"
)

// Diff implements provider.Driver. What depends on the clock was worked out by Observe.
func (Driver) Diff(want spec.Certificate, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "missing",
			Fields: []plan.Field{{Path: fieldCertificate, Want: want.CommonName}}}
	}
	var d plan.Delta
	if have.Problem != "" {
		d.Reason = have.Problem
		d.Compare(fieldCertificate, have.Problem, "valid")
	}
	for _, f := range have.Files {
		d.Compare(f.Path+" mode", f.Mode, f.WantMode)
		d.Compare(f.Path+" owner", f.Owner, f.WantOwner)
	}
	if have.Stale > 0 {
		d.Compare("old versions", "left behind", "removed")
	}
	if have.Problem == "" {
		compareServed(&d, want, have)
	}
	if d.Reason == "" && !d.Empty() {
		d.Reason = reason(d)
	}
	return d
}

func compareServed(d *plan.Delta, want spec.Certificate, have *Status) {
	if have.ReloadDue && len(want.Reload) > 0 {
		d.Compare(fieldReload, "not done since the certificate changed", "done")
	}
	if have.Served != "" {
		d.Compare(fieldServed, have.Served, have.Serial)
	}
}

func reason(d plan.Delta) string {
	switch {
	case d.Has(fieldServed):
		return "another certificate is served than the one on disk"
	case d.Has(fieldReload):
		return "the reload is due"
	case d.Has("old versions"):
		return "old keys are left behind"
	}
	return "mode or owner"
}

// Next implements provider.Scheduler: the renewal.
func (Driver) Next(_ spec.Certificate, have *Status) time.Time {
	if have == nil || have.Problem != "" {
		return time.Time{}
	}
	return have.RenewAt
}
