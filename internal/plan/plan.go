// Package plan is what would change and in which order. It is pure: no I/O, no clock.
package plan

import "github.com/phoenix-hypervisor/phoenix/internal/object"

// Action is what a change does to its object.
type Action string

// The actions, as they stand in the JSON of plan.
const (
	None    Action = ""
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace" // the object is destroyed and made again: asks for consent
	Delete  Action = "delete"
)

// AfterApply stands for a value that is known only once another object is true.
const AfterApply = "known after apply"

// Field is one difference: have is what was observed, want is what the spec says. Secrets are never put in here.
type Field struct {
	Path string `json:"path"`
	Have string `json:"have"`
	Want string `json:"want"`
}

// Delta is the difference between one object's spec and its status. The zero value means there is none.
type Delta struct {
	Action Action  `json:"action"`
	Reason string  `json:"reason,omitempty"`
	Fields []Field `json:"fields,omitempty"`
	// Interrupts: what runs is stopped and started again, which asks for consent.
	Interrupts bool `json:"interrupts,omitempty"`
}

// Empty reports whether there is nothing to do.
func (d Delta) Empty() bool { return d.Action == None }

// Compare adds a field when have and want differ and makes the delta an update if it was empty.
func (d *Delta) Compare(path, have, want string) {
	if have == want {
		return
	}
	d.Fields = append(d.Fields, Field{Path: path, Have: have, Want: want})
	if d.Action == None {
		d.Action = Update
	}
}

// Has reports whether the delta has a field with that path.
func (d Delta) Has(path string) bool {
	for _, f := range d.Fields {
		if f.Path == path {
			return true
		}
	}
	return false
}

// Change is one object's delta in a plan or in the result of an apply.
type Change struct {
	Address object.Address `json:"address"`
	Delta
}

// Plan is the list of changes in the order in which they are made.
type Plan struct {
	Changes []Change       `json:"changes"`
	Summary map[Action]int `json:"summary"`
}

// New counts the changes.
func New(changes []Change) Plan {
	p := Plan{Changes: changes, Summary: map[Action]int{Create: 0, Update: 0, Replace: 0, Delete: 0}}
	if p.Changes == nil {
		p.Changes = []Change{}
	}
	for _, c := range changes {
		p.Summary[c.Action]++
	}
	return p
}
