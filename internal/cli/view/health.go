package view

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
)

// Health is one line a check, grouped by container; what failed has its evidence and its fix below.
func (p *people) Health(r health.Report) {
	counts := map[health.Status]int{}
	for _, c := range r.Checks {
		counts[c.Status]++
	}
	for _, g := range groups(r.Checks) {
		p.group(g)
	}
	word, out := p.paint(green, "healthy"), p.Out
	if !r.Healthy {
		word, out = p.paint(red, "not healthy"), p.Err
	}
	if !p.Quiet || !r.Healthy {
		fmt.Fprintf(out, "%s: %s, %d passed, %d failed, %d skipped\n", word, count(len(r.Checks), "check"),
			counts[health.Pass], counts[health.Fail], counts[health.Skip])
	}
}

// unwell counts what did not pass.
func unwell(r health.Report) string {
	counts := map[health.Status]int{}
	for _, c := range r.Checks {
		counts[c.Status]++
	}
	return fmt.Sprintf("%d of %s failed, %d skipped", counts[health.Fail], count(len(r.Checks), "check"),
		counts[health.Skip])
}

type group struct {
	title  string
	checks []health.Result
}

// groups keeps the checks' order; the hypervisor's own come first.
func groups(checks []health.Result) []group {
	out := []group{{title: "hypervisor"}}
	index := map[string]int{"hypervisor": 0}
	for _, c := range checks {
		title := "hypervisor"
		if scope := c.Object.Scope(); strings.Trim(scope, "0123456789") == "" {
			title = "container " + scope
		}
		i, known := index[title]
		if !known {
			i = len(out)
			index[title] = i
			out = append(out, group{title: title})
		}
		out[i].checks = append(out[i].checks, c)
	}
	return out
}

func (p *people) group(g group) {
	var shown []health.Result
	for _, c := range g.checks {
		if !p.Quiet || c.Status == health.Fail {
			shown = append(shown, c)
		}
	}
	if len(shown) == 0 {
		return
	}
	fmt.Fprintln(p.Out, p.paint(bold, g.title))
	// The mark stands before the table, where its colour cannot upset the columns.
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range shown {
		writeRow(w, c.ID, string(c.Object), c.Summary)
	}
	w.Flush()
	lines := strings.Split(b.String(), "\n")
	for i, c := range shown {
		line := strings.TrimRight(lines[i], " ")
		fmt.Fprintf(p.Out, "  %s  %s\n", p.mark(c.Status), line)
		if c.Status == health.Fail {
			p.reason(c)
		}
	}
}

func (p *people) mark(s health.Status) string {
	return p.paint(map[health.Status]string{health.Pass: green, health.Fail: red, health.Skip: yellow}[s], string(s))
}

func (p *people) reason(c health.Result) {
	if c.Evidence != "" {
		fmt.Fprintf(p.Out, "        evidence: %s\n", clean.Line(c.Evidence, cellLimit))
	}
	if c.Fix != "" {
		fmt.Fprintf(p.Out, "        fix: %s\n", clean.Line(c.Fix, cellLimit))
	}
}
