package config

import (
	"cmp"
	"fmt"
	"slices"
)

// Settled is a finding with who bears it, if somebody does.
type Settled struct {
	Finding
	Accepted *Acceptance // nil: it is open
}

// Settle marks what is accepted today (as 2006-01-02), and adds a finding for each acceptance that has expired, has no
// reason or is about nothing. partial: not everything was looked at, so that one about nothing may be about the rest.
// Files come first and in their order; the same input gives the same output.
func Settle(findings []Finding, accepted []*Acceptance, today string, partial bool) []Settled {
	var out []Settled
	used := map[*Acceptance]bool{}
	for _, f := range findings {
		s := Settled{Finding: f}
		for _, a := range accepted {
			if !a.covers(f) {
				continue
			}
			used[a] = true
			if a.holds(today) {
				s.Accepted = a
			}
		}
		out = append(out, s)
	}
	for _, a := range accepted {
		if f, bad := a.problem(today, used[a] || partial); bad {
			out = append(out, Settled{Finding: f})
		}
	}
	slices.SortStableFunc(out, func(a, b Settled) int {
		return cmp.Or(cmp.Compare(onSystem(a), onSystem(b)), cmp.Compare(a.Source.File, b.Source.File),
			cmp.Compare(a.Source.Line, b.Source.Line),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Rule.ID, b.Rule.ID), cmp.Compare(a.Object, b.Object),
			cmp.Compare(a.Summary, b.Summary))
	})
	return slices.CompactFunc(out, func(a, b Settled) bool {
		return a.Rule.ID == b.Rule.ID && a.Source == b.Source && a.Path == b.Path && a.Object == b.Object &&
			a.Summary == b.Summary
	})
}

// onSystem puts what is in a file before what is on the system.
func onSystem(s Settled) int {
	if s.Source.File == "" {
		return 1
	}
	return 0
}

// covers reports whether the acceptance is about a finding, by its object or by the path of its key.
func (a *Acceptance) covers(f Finding) bool {
	return a.Rule == f.Rule.ID && a.Object != "" && (a.Object == f.Object || a.Object == f.Path)
}

func (a *Acceptance) holds(today string) bool { return a.Reason != "" && string(a.Until) >= today }

func (a *Acceptance) problem(today string, used bool) (Finding, bool) {
	f := Finding{Rule: ruleVoid, Source: a.Source, Path: a.path, Object: "audit_accept", Fix: "remove the acceptance"}
	switch {
	case a.Until == "" || a.Reason == "" || a.Rule == "" || a.Object == "":
		f.Summary, f.Fix = "the acceptance is not whole",
			"give it rule, object, reason and until, a day such as 2027-01-31"
	case string(a.Until) < today:
		f.Rule = ruleExpired
		f.Summary = fmt.Sprintf("%s of %s was accepted until %s", a.Rule, a.Object, a.Until)
		f.Fix = "mend what was accepted, or give the acceptance a new reason and day"
	case !used:
		f.Summary = fmt.Sprintf("there is no finding %s of %s", a.Rule, a.Object)
	default:
		return f, false
	}
	return f, true
}
