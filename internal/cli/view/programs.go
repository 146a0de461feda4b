package view

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// programs writes one JSON document to out. Its shapes are a contract.
type programs struct {
	out, err io.Writer
	notes    diag.List
}

// Event tells on the error output what a person who waits must know.
func (v *programs) Event(e engine.Event) {
	if said := aside(e); said != "" {
		fmt.Fprintln(v.err, said)
	}
}

func (v *programs) Validation(x Validation) {
	if x.Diagnostics == nil {
		x.Diagnostics = diag.List{}
	}
	v.write(x)
}

func (v *programs) Notes(list diag.List) { v.notes = list }

// planned is plan's document.
type planned struct {
	plan.Plan
	Failures    []engine.Failure `json:"failures,omitempty"`
	Diagnostics diag.List        `json:"diagnostics,omitempty"`
}

func (v *programs) Plan(r engine.Result) {
	v.write(planned{Plan: r.Plan, Failures: r.Failures, Diagnostics: v.notes})
}

// applied is the document of create, apply, up and start.
type applied struct {
	plan.Plan
	Mutations   int              `json:"mutations"`
	Failures    []engine.Failure `json:"failures"`
	ElapsedMS   int64            `json:"elapsed_ms"`
	Stopped     string           `json:"stopped,omitempty"`
	Left        []object.Address `json:"left,omitempty"`
	Health      *health.Report   `json:"health,omitempty"`
	Addresses   []Address        `json:"addresses,omitempty"`
	Root        *Root            `json:"root,omitempty"`
	Watch       string           `json:"watch,omitempty"`
	Diagnostics diag.List        `json:"diagnostics,omitempty"`
}

func (v *programs) Applied(a Applied) { v.write(v.applied(a)) }

func (v *programs) applied(a Applied) applied {
	doc := applied{
		Plan: a.Result.Plan, Mutations: a.Result.Mutations, Failures: a.Result.Failures,
		ElapsedMS: a.Elapsed.Milliseconds(), Health: a.Health, Addresses: a.Addresses, Root: a.Root, Watch: a.Watch,
		Diagnostics: v.notes,
	}
	if a.Stopped != nil {
		doc.Stopped, doc.Left = a.Stopped.Error(), a.Result.Left()
	}
	if doc.Failures == nil {
		doc.Failures = []engine.Failure{}
	}
	return doc
}

func (v *programs) Removed(r Removed) {
	if r.Objects == nil {
		r.Objects = []object.Address{}
	}
	v.write(struct {
		Removed
		ElapsedMS int64 `json:"elapsed_ms"`
	}{r, r.Elapsed.Milliseconds()})
}

func (v *programs) Status(s Status) {
	if s.Containers == nil {
		s.Containers = []Container{}
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		if c.Volumes == nil {
			c.Volumes = []Volume{}
		}
		if c.Certificates == nil {
			c.Certificates = []Certificate{}
		}
	}
	v.write(s)
}

func (v *programs) Health(r health.Report) { v.write(r) }

func (v *programs) Version(x Version) { v.write(x) }

// Error goes to both: the document for the program, the line for whoever reads its log.
func (v *programs) Error(err error, hint string) {
	var doc struct {
		Error struct {
			Message string `json:"message"`
			Hint    string `json:"hint,omitempty"`
		} `json:"error"`
	}
	doc.Error.Message, doc.Error.Hint = err.Error(), hint
	v.write(doc)
	fmt.Fprintln(v.err, "error: "+err.Error())
}

func (v *programs) write(doc any) {
	enc := json.NewEncoder(v.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		fmt.Fprintf(v.err, "error: the result could not be written: %v\n", err)
	}
}
