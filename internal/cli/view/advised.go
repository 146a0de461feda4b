package view

import (
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
)

// advised is a View whose advice names commands as they have to be called here: whoever wrote the advice knew neither
// the files nor the root that phoenix was called with, and a command without them is about another site.
type advised struct {
	View
	say func(string) string
}

// advice is a text with its commands as they have to be called.
func (o Options) advice(text string) string {
	if o.Advice == nil {
		return text
	}
	return o.Advice(text)
}

// each gives a copy of a list, changed.
func each[E any](list []E, change func(*E)) []E {
	out := slices.Clone(list)
	for i := range out {
		change(&out[i])
	}
	return out
}

func (v *advised) diags(list diag.List) diag.List {
	return each(list, func(d *diag.Diagnostic) { d.Hint = v.say(d.Hint) })
}

func (v *advised) result(r engine.Result) engine.Result {
	r.Failures = each(r.Failures, func(f *engine.Failure) { f.Hint = v.say(f.Hint) })
	return r
}

func (v *advised) report(r health.Report) health.Report {
	r.Checks = each(r.Checks, func(c *health.Result) { c.Fix = v.say(c.Fix) })
	return r
}

func (v *advised) applied(a Applied) Applied {
	a.Result = v.result(a.Result)
	if a.Health != nil {
		report := v.report(*a.Health)
		a.Health = &report
	}
	return a
}

func (v *advised) Error(err error, hint string) { v.View.Error(err, v.say(hint)) }
func (v *advised) Notes(list diag.List)         { v.View.Notes(v.diags(list)) }
func (v *advised) Plan(r engine.Result)         { v.View.Plan(v.result(r)) }
func (v *advised) Applied(a Applied)            { v.View.Applied(v.applied(a)) }
func (v *advised) Health(r health.Report)       { v.View.Health(v.report(r)) }
func (v *advised) Migration(m Migration)        { m.Diagnostics = v.diags(m.Diagnostics); v.View.Migration(m) }
func (v *advised) Difference(d Difference) {
	d.Diagnostics = v.diags(d.Diagnostics)
	v.View.Difference(d)
}

func (v *advised) Validation(x Validation) {
	x.Diagnostics, x.Hint = v.diags(x.Diagnostics), v.say(x.Hint)
	v.View.Validation(x)
}

func (v *advised) Audit(a Audit) {
	a.Findings = each(a.Findings, func(f *Finding) { f.Fix = v.say(f.Fix) })
	v.View.Audit(a)
}

func (v *advised) Rotation(r Rotation) {
	r.Result = v.result(r.Result)
	v.View.Rotation(r)
}

func (v *advised) Rotated(r Rotated) {
	r.Applied, r.say = v.applied(r.Applied), v.say
	v.View.Rotated(r)
}

func (v *advised) Moved(m Moved) {
	m.Leaked = each(m.Leaked, func(l *Leak) { l.Remedy = v.say(l.Remedy) })
	if m.Health != nil {
		report := v.report(*m.Health)
		m.Health = &report
	}
	v.View.Moved(m)
}
