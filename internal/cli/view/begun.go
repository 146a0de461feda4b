package view

import (
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Begun is a configuration that was written for a new site.
type Begun struct {
	Files      []string `json:"files"`
	Zone       string   `json:"zone"`
	Bridge     string   `json:"bridge"`
	Subnet     string   `json:"subnet"`
	Containers []string `json:"containers"`
	Next       []string `json:"next"` // commands

	Result    *engine.Result `json:"-"` // what up would do; nil: see Unplanned
	Unplanned string         `json:"unplanned,omitempty"`
}

func (p *people) Begun(b Begun) {
	if b.Result != nil {
		p.Plan(*b.Result)
	} else {
		p.say("what phoenix up would do cannot be told yet: %s\n", b.Unplanned)
	}
	p.say("written: %s\ncontainers %s on %s (%s), names in %s, each closed by a firewall\n",
		strings.Join(b.Files, ", "), strings.Join(b.Containers, ", "), b.Bridge, b.Subnet, b.Zone)
	for _, line := range b.Next {
		p.say("  %s\n", line)
	}
}

func (v *programs) Begun(b Begun) {
	doc := struct {
		Begun
		Plan        *plan.Plan       `json:"plan,omitempty"`
		Failures    []engine.Failure `json:"failures,omitempty"`
		Diagnostics diag.List        `json:"diagnostics,omitempty"`
	}{Begun: b, Diagnostics: v.notes}
	if b.Result != nil {
		doc.Plan, doc.Failures = &b.Result.Plan, b.Result.Failures
	}
	v.write(doc)
}
