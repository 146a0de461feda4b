package view

import (
	"fmt"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/health"
)

// Moved is what migrate --live would do to a running system, or did.
type Moved struct {
	Steps   []Step         `json:"steps"`
	Leaked  []Leak         `json:"leaked"`
	Notes   []string       `json:"notes"`
	Made    bool           `json:"made"` // false: this was a plan, nothing was changed
	Done    bool           `json:"done"` // nothing is left to do
	Health  *health.Report `json:"health,omitempty"`
	Next    []string       `json:"next"` // commands
	Elapsed time.Duration  `json:"-"`
}

// Step is one on the way.
type Step struct {
	Name string `json:"step"`
	What string `json:"what"`
	Done bool   `json:"done"`
}

// Leak is something that others could read.
type Leak struct {
	Item   string `json:"item"`
	Path   string `json:"path"`
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
	Mended bool   `json:"mended"`
}

// Moved implements View.
func (p *people) Moved(m Moved) {
	p.progress.end()
	if !m.Made {
		for i, s := range m.Steps {
			state := map[bool]string{true: "done", false: "to do"}[s.Done]
			p.say("%2d. %-6s %-14s %s\n", i+1, state, s.Name, s.What)
		}
	}
	if m.Health != nil {
		p.Health(*m.Health)
	}
	if len(m.Leaked) > 0 {
		p.say("others could read these; they count as leaked:\n")
	}
	for _, l := range m.Leaked {
		sign := p.paint(red, "OPEN  ")
		if l.Mended {
			sign = p.paint(green, "mended")
		}
		p.say("  %s %s, %s (%s)\n           %s\n", sign, l.Item, l.Path, l.Why, l.Remedy)
	}
	for _, n := range m.Notes {
		p.say("note: %s\n", n)
	}
	switch {
	case !m.Made && m.Done:
		p.say("nothing to do\n")
	case !m.Made:
		p.say("nothing was changed\n")
	default:
		p.say("done, %.1f s\n", m.Elapsed.Seconds())
	}
	for _, n := range m.Next {
		fmt.Fprintf(p.Out, "next: %s\n", n)
	}
}

// Moved implements View.
func (v *programs) Moved(m Moved) {
	for _, list := range []*[]string{&m.Notes, &m.Next} {
		if *list == nil {
			*list = []string{}
		}
	}
	if m.Leaked == nil {
		m.Leaked = []Leak{}
	}
	v.write(struct {
		Moved
		ElapsedMS int64 `json:"elapsed_ms"`
	}{m, m.Elapsed.Milliseconds()})
}
