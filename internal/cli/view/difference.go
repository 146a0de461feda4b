package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Difference is how the files differ from the configuration that was last applied.
type Difference struct {
	Applied time.Time      `json:"applied"`
	Version string         `json:"version"` // of the phoenix that applied it
	Files   []MigratedFile `json:"files"`
	Scripts []string       `json:"scripts,omitempty"` // whose content is another
	Waiting []Waiting      `json:"waiting"`
	Missing []string       `json:"missing,omitempty"` // secrets that the files do not hold any more
	Written bool           `json:"written,omitempty"`
	// Diagnostics are why the files cannot be used.
	Diagnostics diag.List `json:"diagnostics,omitempty"`
	Revert      bool      `json:"-"` // it is about going back
	Next        string    `json:"-"`
}

// Waiting is a change of the files that waits for a person.
type Waiting struct {
	Object    object.Address `json:"object"`
	Container string         `json:"container,omitempty"`
	Reason    string         `json:"reason"`
}

// Difference shows the difference first, so that it can be given to patch.
func (p *people) Difference(d Difference) {
	for _, f := range d.Files {
		p.say("%s", p.paintDiff(f.Diff))
	}
	for _, x := range d.Diagnostics {
		fmt.Fprintln(p.Err, x.String())
	}
	if len(d.Scripts) > 0 {
		fmt.Fprintf(p.Err, "scripts with another content than was applied: %s\n", strings.Join(d.Scripts, ", "))
	}
	if !d.Revert {
		p.waiting(d.Waiting)
	}
	for _, f := range d.Files {
		if f.Kept != "" {
			fmt.Fprintf(p.Err, "written %s; the one before is %s\n", f.File, f.Kept)
		}
	}
	switch {
	case len(d.Files) == 0 && len(d.Scripts) == 0:
		p.say("the files are as they were applied at %s by phoenix %s\n", d.Applied.Local().Format(time.DateTime),
			d.Version)
	case d.Revert && !d.Written && len(d.Files) > 0:
		fmt.Fprintf(p.Err, "nothing was written; %s takes the lines with + out and puts those with - back\n", d.Next)
	}
}

// waiting lists what waits for phoenix apply.
func (p *people) waiting(list []Waiting) {
	for _, w := range list {
		fmt.Fprintf(p.Err, "%s: %s: %s\n", p.advice("waits for phoenix apply"), w.Object, w.Reason)
	}
}

func (v *programs) Difference(d Difference) {
	if d.Files == nil {
		d.Files = []MigratedFile{}
	}
	if d.Waiting == nil {
		d.Waiting = []Waiting{}
	}
	v.write(d)
}
