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
	Outlook
}

// Outlook is what up would do with a configuration that was just written; both are empty where nothing was changed.
type Outlook struct {
	Result    *engine.Result `json:"-"` // nil: see Unplanned
	Unplanned string         `json:"unplanned,omitempty"`
}

// outlook is the end of a document that has one.
type outlook struct {
	Plan        *plan.Plan       `json:"plan,omitempty"`
	Failures    []engine.Failure `json:"failures,omitempty"`
	Diagnostics diag.List        `json:"diagnostics,omitempty"`
}

func (v *programs) outlook(o Outlook) outlook {
	doc := outlook{Diagnostics: v.notes}
	if o.Result != nil {
		doc.Plan, doc.Failures = &o.Result.Plan, o.Result.Failures
	}
	return doc
}

func (p *people) outlook(o Outlook) {
	switch {
	case o.Result != nil:
		p.Plan(*o.Result)
	case o.Unplanned != "":
		p.say("what phoenix up would do is not known yet: %s\n", strings.TrimSpace(o.Unplanned))
	}
}

func (p *people) Begun(b Begun) {
	p.outlook(b.Outlook)
	p.say("written: %s\ncontainers %s on %s (%s), names in %s, each closed by a firewall\n",
		strings.Join(b.Files, ", "), strings.Join(b.Containers, ", "), b.Bridge, b.Subnet, b.Zone)
	for _, line := range b.Next {
		p.say("  %s\n", line)
	}
}

func (v *programs) Begun(b Begun) {
	v.write(struct {
		Begun
		outlook
	}{b, v.outlook(b.Outlook)})
}
