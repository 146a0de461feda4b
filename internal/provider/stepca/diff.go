package stepca

import (
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Diff implements provider.Driver.
func (Driver) Diff(_ spec.StepCA, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "there is no certificate authority yet"}
	}
	var d plan.Delta
	d.Compare("root", have.Root, rootUsable)
	switch have.Root {
	case rootUsable:
	case rootSucceeded:
		d.Reason = "another root takes its place"
	default:
		d.Reason = "the root cannot be used"
	}
	for _, w := range have.Wrong {
		d.Compare(w.Path, w.Have, w.Want)
	}
	return d
}

// Next implements provider.Scheduler: the intermediate is issued again after two thirds of its lifetime.
func (Driver) Next(_ spec.StepCA, have *Status) time.Time {
	if have == nil || have.IntermediateNotAfter.IsZero() {
		return time.Time{}
	}
	return have.IntermediateNotBefore.Add(have.IntermediateNotAfter.Sub(have.IntermediateNotBefore) / 3 * 2)
}
