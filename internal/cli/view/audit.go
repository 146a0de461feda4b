package view

import (
	"fmt"
	"slices"
	"strings"
)

// Audit is what the audit found, accepted or not, in the order in which it is shown.
type Audit struct {
	Findings []Finding `json:"findings"`
	NotSeen  []NotSeen `json:"not_seen"` // what was not looked at
	Rules    int       `json:"-"`        // how many were applied
	Version  string    `json:"-"`        // of phoenix
}

// Finding is one finding of the audit. Line is 0 and File empty where it is about the system.
type Finding struct {
	Rule     string      `json:"rule"`
	Severity string      `json:"severity"` // low, medium, high or critical
	File     string      `json:"file,omitempty"`
	Line     int         `json:"line,omitempty"`
	Path     string      `json:"path,omitempty"` // of the value in the file
	Object   string      `json:"object"`
	Summary  string      `json:"summary"`
	Why      string      `json:"why"`
	Fix      string      `json:"fix"`
	Accepted *Acceptance `json:"accepted,omitempty"` // it does not count
	Title    string      `json:"-"`                  // of the rule
}

// Acceptance is why a finding is borne, and until which day.
type Acceptance struct {
	Reason string `json:"reason"`
	Until  string `json:"until"`
}

// NotSeen is something that could not be looked at, so that nothing is known of it.
type NotSeen struct {
	Object string `json:"object"`
	Reason string `json:"reason"`
}

// place is where the finding is: file:line, or the object.
func (f Finding) place() string {
	switch {
	case f.File == "":
		return f.Object
	case f.Line == 0:
		return f.File
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

// severities are all of them, the worst first.
var severities = []string{"critical", "high", "medium", "low"}

// Audit shows the findings, the accepted ones in one line each, and what was not seen.
func (p *people) Audit(a Audit) {
	counts, accepted := map[string]int{}, 0
	for _, f := range a.Findings {
		if f.Accepted != nil {
			accepted++
			p.say("%s  %s  %s: %s (until %s: %s)\n", p.paint(yellow, "accepted"), f.Rule, f.place(), f.Summary,
				f.Accepted.Until, f.Accepted.Reason)
			continue
		}
		counts[f.Severity]++
		fmt.Fprintf(p.Out, "%s  %s  %s: %s\n", p.paint(severityColour(f.Severity), fmt.Sprintf("%-8s", f.Severity)),
			f.Rule, f.place(), f.about())
		p.say("          why: %s\n", f.Why)
		fmt.Fprintf(p.Out, "          fix: %s\n", f.Fix)
	}
	for _, n := range a.NotSeen {
		p.say("%s  %s: %s\n", p.paint(yellow, "not seen"), n.Object, n.Reason)
	}
	open := len(a.Findings) - accepted
	if open == 0 {
		p.say("%s: nothing found, %d accepted, %d rules\n", p.paint(green, "clean"), accepted, a.Rules)
		return
	}
	var parts []string
	for _, s := range severities {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	fmt.Fprintf(p.Err, "%s: %s; %d accepted\n", p.paint(red, count(open, "finding")), strings.Join(parts, ", "),
		accepted)
}

// about is the summary, with the object where the place does not say it already.
func (f Finding) about() string {
	if f.File == "" || strings.HasPrefix(f.Path, f.Object) {
		return f.Summary
	}
	return f.Object + ": " + f.Summary
}

func severityColour(s string) string {
	if slices.Index(severities, s) < 2 {
		return red
	}
	return yellow
}

func (v *programs) Audit(a Audit) {
	if a.Findings == nil {
		a.Findings = []Finding{}
	}
	if a.NotSeen == nil {
		a.NotSeen = []NotSeen{}
	}
	v.write(a)
}
