package view

import (
	"fmt"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Rotated is what a rotation did.
type Rotated struct {
	Applied
	Root string // fingerprint of the root now
	Old  string // fingerprint of the root before; empty: it is the same
	Next string // fingerprint of the root that everyone trusts besides by now; empty: none
	// Names of the roots in their certificates; empty: not known.
	RootName, OldName string
	say               func(string) string // for advice; nil: as it is
	Down              []string            // containers that did not run: they come along when they are started
}

// Rotation is what a rotation would do.
type Rotation struct {
	Root    string        // fingerprint
	Steps   []string      // of a new root; none: the root stays
	At      int           // the step it is in
	Exposed string        // what was made before this time is made anew; empty: it is a new root
	Down    []string      // containers that do not run
	Result  engine.Result // the plan; of a new root that of the present step
}

// Add notes what one part of it did.
func (r *Rotated) Add(a Applied) {
	changes := append(r.Result.Plan.Changes, a.Result.Plan.Changes...)
	r.Result = engine.Result{
		Plan: plan.New(changes), Statuses: a.Result.Statuses, Failures: a.Result.Failures,
		Mutations: r.Result.Mutations + a.Result.Mutations,
	}
	r.Containers, r.Elapsed, r.Stopped = a.Containers, a.Elapsed, a.Stopped
}

func (p *people) Step(what string) { p.say("%s\n", p.paint(bold, what)) }

func (p *people) Rotated(r Rotated) {
	p.progress.end()
	p.say("%s, %.1f s\n", count(len(r.Result.Plan.Changes), "change"), r.Elapsed.Seconds())
	switch {
	case r.Old != "":
		p.say("the root is now %s; no container trusts %s any more\n", rootWords(r.RootName, r.Root),
			rootWords(r.OldName, r.Old))
		for _, todo := range r.todo() {
			p.say("left to do: %s\n", todo)
		}
	case r.Next != "":
		p.say("the root is still sha256 %s; everyone trusts %s as well\n%s\n", r.Root, r.Next,
			p.advice("give both to clients outside (phoenix ca show), then run it without --prepare"))
	default:
		p.say("the root is the same, sha256 %s\n", r.Root)
		p.say("%s\n", p.advice("were the keys of the root or of the intermediate known to others too? then only a "+
			"new root helps: phoenix ca rotate --new-root --yes"))
	}
	if len(r.Down) > 0 {
		fmt.Fprintf(p.Err, "not running, so their certificates are made anew when they are started: %s\n",
			strings.Join(r.Down, ", "))
	}
}

// rootWords is a root for people: stores show its name, and the digest tells for sure.
func rootWords(name, fingerprint string) string {
	if name == "" {
		return "sha256 " + fingerprint
	}
	return fmt.Sprintf("%q (sha256 %s)", clean.Line(name, 100), fingerprint)
}

// todo is what phoenix cannot do after a root was replaced.
func (r Rotated) todo() []string {
	if r.Old == "" {
		return nil
	}
	list := []string{
		"phones, browsers and other machines that were given the old root still trust it: remove it from each of " +
			"them, and give it the new one (phoenix ca show)",
		"older backups of the CA hold the key of the old root: destroy them, once a new one was made (phoenix ca " +
			"backup FILE --password-file FILE)",
	}
	if r.say == nil {
		return list
	}
	return each(list, func(text *string) { *text = r.say(*text) })
}

func (p *people) Rotation(r Rotation) {
	for i, step := range r.Steps {
		p.say("%s %d. %s\n", map[bool]string{true: "->", false: "  "}[i == r.At], i+1, step)
	}
	if r.Exposed != "" {
		p.say("what was made before %s is made anew; the root stays, sha256 %s\n", r.Exposed, r.Root)
	}
	p.Plan(r.Result)
	if len(r.Down) > 0 {
		fmt.Fprintf(p.Err, "not running: %s\n", strings.Join(r.Down, ", "))
	}
	fmt.Fprintln(p.Err, "nothing was changed: --yes does it")
}

func (v *programs) Rotation(r Rotation) {
	v.write(struct {
		planned
		Root    string   `json:"root"`
		Steps   []string `json:"steps,omitempty"`
		At      int      `json:"step,omitempty"` // from 1
		Exposed string   `json:"exposed_before,omitempty"`
		Down    []string `json:"not_running,omitempty"`
	}{planned{Plan: r.Result.Plan, Failures: r.Result.Failures}, r.Root, r.Steps, stepFrom1(r), r.Exposed, r.Down})
	fmt.Fprintln(v.err, "nothing was changed: --yes does it")
}

func stepFrom1(r Rotation) int {
	if len(r.Steps) == 0 {
		return 0
	}
	return r.At + 1
}

// Step is of interest to people only.
func (v *programs) Step(string) {}

func (v *programs) Rotated(r Rotated) {
	v.write(struct {
		applied
		Root string   `json:"root"`
		Old  string   `json:"old_root,omitempty"`
		Next string   `json:"next_root,omitempty"`
		Down []string `json:"not_running,omitempty"`

		RootName string   `json:"root_name,omitempty"`
		OldName  string   `json:"old_root_name,omitempty"`
		Todo     []string `json:"left_to_do,omitempty"`
	}{v.applied(r.Applied), r.Root, r.Old, r.Next, r.Down, r.RootName, r.OldName, r.todo()})
}
