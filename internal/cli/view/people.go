package view

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// people writes text.
type people struct {
	Options
	progress progress
}

func newPeople(o Options) *people {
	p := &people{Options: o}
	switch {
	case o.Quiet:
		p.progress = silent{}
	case o.Live:
		p.progress = &live{out: o.Out, width: o.Width, rows: map[string]*row{}}
	default:
		p.progress = &lines{out: o.Out, err: o.Err}
	}
	return p
}

func (p *people) Event(e engine.Event) { p.progress.event(e) }

func (p *people) say(format string, args ...any) {
	if !p.Quiet {
		fmt.Fprintf(p.Out, format, args...)
	}
}

// ANSI colours.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

func (p *people) paint(code, s string) string {
	if !p.Color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *people) Validation(v Validation) {
	counts := map[diag.Severity]int{}
	for _, d := range v.Diagnostics {
		if counts[d.Severity]++; d.Severity != diag.Error {
			p.say("%s\n", d.String())
		}
	}
	for _, d := range v.Diagnostics { // at the end, where they are seen
		if d.Severity == diag.Error {
			fmt.Fprintln(p.Err, d.String())
		}
	}
	if !v.Valid {
		fmt.Fprintf(p.Err, "%s: %s; nothing was touched\n", p.paint(red, "the configuration cannot be used"),
			count(counts[diag.Error], "error"))
		if v.Hint != "" {
			fmt.Fprintln(p.Err, "  hint: "+v.Hint)
		}
		for _, n := range v.Next {
			fmt.Fprintln(p.Err, "next: "+n)
		}
		return
	}
	p.say("%s: %s, %s, %s, %s\n", p.paint(green, "the configuration is valid"), count(v.Containers, "container"),
		count(v.Objects, "object"), count(counts[diag.Warning], "warning"), count(counts[diag.Note], "note"))
}

func (p *people) Notes(list diag.List) {
	for _, d := range list {
		p.say("%s\n", d.String())
	}
}

func (p *people) Plan(r engine.Result) {
	p.failures(r.Failures)
	for _, c := range r.Plan.Changes {
		p.say("%s %s%s\n", p.action(c.Action), c.Address, because(clean.Line(c.Reason, cellLimit)))
		for _, f := range c.Fields {
			p.say("    %s: %s -> %s\n", f.Path, quoted(f.Have), quoted(f.Want))
		}
	}
	s := r.Plan.Summary
	if len(r.Plan.Changes) == 0 && len(r.Failures) > 0 {
		fmt.Fprintf(p.Err, "not everything could be looked at: what is to do is not known\n")
		return
	}
	if len(r.Plan.Changes) == 0 {
		p.say("nothing to do\n")
		return
	}
	p.say("%d to create, %d to update, %d to replace, %d to delete\n", s[plan.Create], s[plan.Update], s[plan.Replace],
		s[plan.Delete])
}

func (p *people) action(a plan.Action) string {
	colour := map[plan.Action]string{plan.Create: green, plan.Update: yellow, plan.Replace: red, plan.Delete: red}[a]
	return p.paint(colour, fmt.Sprintf("%-7s", a))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func quoted(s string) string {
	if s == plan.AfterApply {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func (p *people) Applied(a Applied) {
	p.progress.end()
	p.failures(causes(a))
	if a.Health != nil {
		p.Health(*a.Health)
	}
	p.addresses(a)
	if a.Watch != "" {
		p.say("%s\n", a.Watch)
	}
	took := a.Elapsed.Seconds()
	changes := count(made(a.Result), "change")
	switch broken := untrue(a); {
	case a.Stopped != nil:
		p.left(a.Result.Left())
		p.problem(fmt.Sprintf("stopped: %v (%s, %.1f s)", a.Stopped, changes, took),
			"run it again: it goes on from where it stands")
	case broken > 0:
		fmt.Fprintf(p.Err, "%d of %s up to date, %s, %.1f s\n", len(a.Containers)-broken,
			count(len(a.Containers), "container"), changes, took)
	case len(a.Result.Failures) > 0:
		fmt.Fprintf(p.Err, "%s, %s, %.1f s\n", count(len(a.Result.Failures), "failure"), changes, took)
	case a.Health != nil && !a.Health.Healthy:
		fmt.Fprintf(p.Err, "%s: %s; %s up to date, %s, %.1f s\n", p.paint(red, "not healthy"), unwell(*a.Health),
			count(len(a.Containers), "container"), changes, took)
	case len(a.Result.Plan.Changes) == 0:
		p.say("nothing to do (0 changes, %.2f s)\n", took)
	case len(a.Containers) == 0:
		p.say("%s, %.1f s\n", changes, took)
	default:
		p.say("%s up to date, %s, %.1f s\n", count(len(a.Containers), "container"), changes, took)
	}
}

// made counts the changes that were made whole.
func made(r engine.Result) int {
	n := len(r.Plan.Changes)
	for _, f := range r.Failures {
		if slices.ContainsFunc(r.Plan.Changes, func(c plan.Change) bool { return c.Address == f.Address }) {
			n--
		}
	}
	return n
}

// causes are the failures to show: not what was merely left undone when the work was stopped.
func causes(a Applied) []engine.Failure {
	if a.Stopped == nil {
		return a.Result.Failures
	}
	left := a.Result.Left()
	return slices.DeleteFunc(slices.Clone(a.Result.Failures),
		func(f engine.Failure) bool { return slices.Contains(left, f.Address) })
}

// namedLeft is how many objects that are left are named.
const namedLeft = 60

func (p *people) left(list []object.Address) {
	if len(list) > 0 {
		fmt.Fprintf(p.Err, "not done: %s\n", named(list, namedLeft))
	}
}

// named lists the first of many.
func named(list []object.Address, most int) string {
	more := ""
	if len(list) > most {
		more = fmt.Sprintf(" and %d more", len(list)-most)
		list = list[:most]
	}
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = string(a)
	}
	return strings.Join(names, ", ") + more
}

// untrue counts the selected containers that a failure is about or is inside of.
func untrue(a Applied) int {
	broken := map[string]bool{}
	for _, f := range a.Result.Failures {
		if scope := f.Address.Scope(); slices.Contains(a.Containers, scope) {
			broken[scope] = true
		}
	}
	return len(broken)
}

func (p *people) addresses(a Applied) {
	if len(a.Addresses) > 0 {
		p.say("\naddresses to try:\n")
	}
	for _, x := range a.Addresses {
		p.say("  %s\n      %s\n", p.paint(bold, x.URL), x.Try)
	}
	if a.Root != nil {
		p.say("root certificate, sha256 %s:\n      %s\n", a.Root.Fingerprint, a.Root.Get)
	}
	if len(a.Addresses) > 0 || a.Root != nil {
		p.say("\n")
	}
}

// namedBlocked is how many blocked objects are named.
const namedBlocked = 6

// failures shows each cause once, then what it blocks.
func (p *people) failures(list []engine.Failure) {
	blocked := map[string][]object.Address{}
	var causes []string
	for _, f := range list {
		if f.BlockedBy == "" {
			place := ""
			if f.Source.File != "" {
				place = " (" + f.Source.String() + ")"
			}
			message := strings.TrimPrefix(f.Message, string(f.Address)+": ")
			p.problem(fmt.Sprintf("%s%s: %s", f.Address, place, message), f.Hint)
			continue
		}
		if blocked[f.Message] == nil {
			causes = append(causes, f.Message)
		}
		blocked[f.Message] = append(blocked[f.Message], f.Address)
	}
	for _, c := range causes {
		fmt.Fprintf(p.Err, "%s\n  so not done: %s\n", c, named(blocked[c], namedBlocked))
	}
}

// problemLimit is how long an error may be, in bytes.
const problemLimit = 64 << 10

func (p *people) problem(message, hint string) {
	message = clean.Text(strings.TrimRight(message, "\n"), problemLimit)
	fmt.Fprintf(p.Err, "%s %s\n", p.paint(red, "error:"), strings.ReplaceAll(message, "\n", "\n  "))
	if hint != "" {
		fmt.Fprintf(p.Err, "  hint: %s\n", clean.Line(hint, cellLimit))
	}
}

func (p *people) Error(err error, hint string) {
	p.progress.end()
	p.problem(err.Error(), hint)
}

func (p *people) Removed(r Removed) {
	p.progress.end()
	for _, a := range r.Objects {
		p.say("%s %s\n", r.Verb, a)
	}
	for _, a := range r.Kept {
		p.say("kept %s\n", a)
	}
	for _, a := range r.Aside {
		p.say("put aside %s: %s, until it is deleted again\n  to get it back: %s\n  to remove it for good: %s\n",
			a.Address, a.Place, a.Restore, a.Remove)
	}
	for _, n := range r.Notes {
		p.say("note: %s\n", n)
	}
	if len(r.Objects) == 0 && len(r.Notes) == 0 {
		p.say("nothing to do (%.2f s)\n", r.Elapsed.Seconds())
		return
	}
	p.say("%s %s, %.1f s\n", count(len(r.Objects), "object"), r.Verb, r.Elapsed.Seconds())
}

func (p *people) Version(v Version) {
	fmt.Fprintf(p.Out, "phoenix %s (%s, %s)\n", v.Version, v.Go, v.Platform)
}

func (p *people) Status(s Status) {
	if len(s.Containers) == 0 {
		p.say("no containers\n")
		return
	}
	w := table(p.Out)
	fmt.Fprintln(w, "ID\tNAME\tSTATE\tADDRESS")
	for _, c := range s.Containers {
		writeRow(w, strconv.Itoa(c.ID), c.Name, c.State, c.IP)
	}
	w.Flush()
	p.volumes(s)
	p.certificates(s)
	p.waiting(s.Waiting)
}

func (p *people) volumes(s Status) {
	w := table(p.Out)
	for _, c := range s.Containers {
		for _, v := range c.Volumes {
			if w.Header() {
				fmt.Fprintln(w, "\nID\tVOLUME\tOWNER\tMODE\tSOURCE")
			}
			writeRow(w, strconv.Itoa(c.ID), v.MountPoint, dash(v.Owner), dash(v.Mode), v.Source)
		}
	}
	w.Flush()
}

func (p *people) certificates(s Status) {
	w := table(p.Out)
	for _, c := range s.Containers {
		for _, x := range c.Certificates {
			if w.Header() {
				fmt.Fprintln(w, "\nID\tCERTIFICATE\tEXPIRES\tSERIAL\tISSUER")
			}
			writeRow(w, strconv.Itoa(c.ID), x.CommonName, x.NotAfter.UTC().Format(time.DateTime+"Z"),
				issued.Serial(x.Serial), x.Issuer)
		}
	}
	w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// cellLimit is how long what stands in a table may be, in bytes.
const cellLimit = 1000

// writeRow writes one row. Its cells may say anything: what would end a cell or a line is shown as something else.
func writeRow(w io.Writer, cells ...string) {
	for i, c := range cells {
		cells[i] = clean.Line(c, cellLimit)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// columns is a table whose heading is written before its first row only.
type columns struct {
	*tabwriter.Writer
	headed bool
}

func table(out io.Writer) *columns {
	return &columns{Writer: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

// Header is true once.
func (c *columns) Header() bool {
	first := !c.headed
	c.headed = true
	return first
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
