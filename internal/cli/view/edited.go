package view

import (
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Edited is an application that was put into the configuration, or taken out of it.
type Edited struct {
	App       string         `json:"app"`
	Container string         `json:"container,omitempty"`
	Address   string         `json:"address,omitempty"`
	Hosts     []string       `json:"hosts"`
	Files     []MigratedFile `json:"files"` // that changed
	Changed   bool           `json:"changed"`
	Said      string         `json:"said"` // one line
	Next      []string       `json:"next"` // commands

	Result    *engine.Result `json:"-"`                   // what up would do; nil: see Unplanned
	Unplanned string         `json:"unplanned,omitempty"` // empty too where nothing was changed
}

func (p *people) Edited(e Edited) {
	for _, f := range e.Files {
		p.say("%s", p.paintDiff(f.Diff))
	}
	switch {
	case e.Result != nil:
		p.Plan(*e.Result)
	case e.Unplanned != "":
		p.say("what phoenix up would do cannot be told yet: %s\n", strings.TrimSpace(e.Unplanned))
	}
	p.say("%s\n", e.Said)
	for _, line := range e.Next {
		p.say("  %s\n", line)
	}
}

func (v *programs) Edited(e Edited) {
	doc := struct {
		Edited
		Plan        *plan.Plan       `json:"plan,omitempty"`
		Failures    []engine.Failure `json:"failures,omitempty"`
		Diagnostics diag.List        `json:"diagnostics,omitempty"`
	}{Edited: e, Diagnostics: v.notes}
	if e.Result != nil {
		doc.Plan, doc.Failures = &e.Result.Plan, e.Result.Failures
	}
	v.write(doc)
}
