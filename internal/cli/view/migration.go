package view

import (
	"fmt"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// Migration is what migrate would do to the files, or did.
type Migration struct {
	Changes []Change       `json:"changes"`
	Files   []MigratedFile `json:"files"` // that change
	Written bool           `json:"written"`
	Valid   bool           `json:"valid"` // the result can be used
	// Diagnostics are what still keeps the result from being used.
	Diagnostics diag.List `json:"diagnostics"`
}

// Change is one thing that is different in the result.
type Change struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // in the old file
	Object string `json:"object"`
	What   string `json:"what"`
}

// MigratedFile is one file that changes. Kept is where the old one was put, once it is written.
type MigratedFile struct {
	File string `json:"file"`
	Diff string `json:"diff"` // unified
	Kept string `json:"kept,omitempty"`
}

// Migration shows the difference first, so that it can be given to patch; what it means goes after it.
func (p *people) Migration(m Migration) {
	for _, f := range m.Files {
		p.say("%s", p.paintDiff(f.Diff))
	}
	for _, c := range m.Changes {
		fmt.Fprintf(p.Err, "%s:%d: %s: %s\n", c.File, c.Line, c.Object, c.What)
	}
	for _, d := range m.Diagnostics {
		fmt.Fprintln(p.Err, d.String())
	}
	for _, f := range m.Files {
		if f.Kept != "" {
			fmt.Fprintf(p.Err, "written %s; the old one is %s\n", f.File, f.Kept)
		}
	}
	switch {
	case len(m.Files) == 0 && m.Valid:
		p.say("nothing to migrate\n")
	case !m.Valid:
		fmt.Fprintln(p.Err, p.paint(red, "the result cannot be used yet")+": mend the errors above")
	case !m.Written:
		fmt.Fprintln(p.Err, "nothing was written; --write does it and keeps the old files")
	}
}

func (p *people) paintDiff(diff string) string {
	if !p.Color {
		return diff
	}
	var b strings.Builder
	for line := range strings.Lines(diff) {
		text, code := strings.TrimSuffix(line, "\n"), ""
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"), strings.HasPrefix(line, "@@"):
			code = bold
		case strings.HasPrefix(line, "+"):
			code = green
		case strings.HasPrefix(line, "-"):
			code = red
		}
		if code != "" {
			text = p.paint(code, text)
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}

func (v *programs) Migration(m Migration) {
	if m.Changes == nil {
		m.Changes = []Change{}
	}
	if m.Files == nil {
		m.Files = []MigratedFile{}
	}
	if m.Diagnostics == nil {
		m.Diagnostics = diag.List{}
	}
	v.write(m)
}
