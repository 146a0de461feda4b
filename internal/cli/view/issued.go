package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/issued"
)

// Issued shows what the CA issued, what is not in order first.
func (p *people) Issued(r issued.Report) {
	list := slices.Clone(r.Certificates)
	slices.SortStableFunc(list, func(a, b issued.Verdict) int { return rank(a) - rank(b) })
	if len(list) == 0 {
		p.say("no valid certificate was issued\n")
		return
	}
	w := table(p.Out)
	fmt.Fprintln(w, "SERIAL\tNAMES\tVALID UNTIL\tSTATE\tTO")
	for _, v := range list {
		state := string(v.State)
		if v.Alarming() {
			state = p.paint(red, state)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", issued.Serial(v.Serial), strings.Join(v.Names, ","),
			v.NotAfter.Local().Format("2006-01-02 15:04"), state, recipient(v))
	}
	_ = w.Flush() // to where everything goes
	for _, names := range slices.Sorted(maps.Keys(r.More)) {
		p.say("and %d more for %s\n", r.More[names], names)
	}
	for _, when := range r.Lost {
		p.say("the CA's database was lost at %s: what it issued in the second before may be missing\n", when)
	}
}

func rank(v issued.Verdict) int {
	return slices.Index([]issued.State{issued.Foreign, issued.Unwanted, issued.Unclear, issued.Listed, issued.Former,
		issued.Accounted, issued.Pending}, v.State)
}

// recipient is the container that a certificate went to, or else what is known of whoever has it.
func recipient(v issued.Verdict) string {
	switch {
	case v.State == issued.Accounted || v.State == issued.Former:
		return "container " + v.Container
	case v.State == issued.Pending:
		return "nobody"
	case v.From != "":
		return "account " + v.Account + " from " + v.From
	case v.Account != "":
		return "account " + v.Account
	}
	return "unknown"
}

func (v *programs) Issued(r issued.Report) { v.write(r) }
