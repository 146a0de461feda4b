// Package health is the full system check, derived from the objects: Derive turns objects into checks, which are data
// and run where they belong; Run does one of them and changes nothing; a Board orders them and folds what comes back
// into a Report. docs/health.md lists every check's id.
package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Check is one question about an object. It is pure data and travels as JSON to the host where it runs.
type Check struct {
	ID     string         `json:"id"` // stable, such as PHX-CERT-003
	Object object.Address `json:"object"`
	// what of the object, where there is more than one: a DNS name, a path
	Subject string `json:"subject,omitempty"`
	// where it runs: empty is the hypervisor, else inside that container
	Host   string          `json:"host,omitempty"`
	Kind   string          `json:"kind"` // which code runs it
	Params json.RawMessage `json:"params,omitempty"`
	After  []Key           `json:"after,omitempty"` // without these it cannot be asked: not run if one of them failed
	// run before it; if it fails and one of them did too, that one is why
	Causes []Key         `json:"causes,omitempty"`
	Needs  []object.Need `json:"needs,omitempty"` // Resolve copies these facts into Params
	// for who runs the checks at the end of a run: a failure counts after so many tries
	Again *spec.Again `json:"-"`
	// what a person types on the hypervisor before a command that runs in the container
	Enter string `json:"enter,omitempty"`
}

// Key tells one check from every other.
type Key string

// Key joins what makes the check different from the others: PHX-ROUTE-001 nginx/101 app.example @201.
func (c Check) Key() Key {
	parts := []string{c.ID, string(c.Object)}
	if c.Subject != "" {
		parts = append(parts, c.Subject)
	}
	return Key(strings.Join(append(parts, "@"+c.Host), " "))
}

// Status is how a check ended.
type Status string

// The statuses, as they stand in the JSON of health. Skip: it was not asked, or another check that failed is the
// reason.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Result is what one check found.
type Result struct {
	ID       string         `json:"id"`
	Object   object.Address `json:"object"`
	Status   Status         `json:"status"`
	Summary  string         `json:"summary"`  // what is (not) so
	Evidence string         `json:"evidence"` // what was seen; short, never key material
	Fix      string         `json:"fix"`      // the command or action that mends it; empty unless it failed
	// Vain: to try again would be. It is for who runs the checks, and not shown.
	Vain bool `json:"vain,omitempty"`
}

// Report is the whole: healthy only if every check passed, since what was skipped is not known to be well.
type Report struct {
	Healthy bool     `json:"healthy"`
	Checks  []Result `json:"checks"`
}

func (c Check) result(s Status, said, evidence, fix string) Result {
	return Result{ID: c.ID, Object: c.Object, Status: s, Summary: summary(said), Evidence: short(evidence),
		Fix: clean.Line(fix, fixLimit)}
}

func (c Check) pass(summary, evidence string) Result { return c.result(Pass, summary, evidence, "") }

func (c Check) fail(summary, evidence, fix string) Result {
	return c.result(Fail, summary, evidence, fix)
}

// unasked is for a question that another check answers better, so that one cause is one failure.
func (c Check) unasked(summary, evidence string) Result {
	return c.result(Skip, summary, evidence, "")
}

var errNoStatus = errors.New("the container's answer is none")

// Failed is the result of a check that could not be run at all, for the caller who could not reach its host.
func Failed(c Check, err error) Result {
	where := "on the hypervisor"
	if c.Host != "" {
		where = "inside container " + c.Host
	}
	return c.fail("could not be checked "+where, err.Error(), c.apply())
}

// container is the id of the container that the check is about; empty: none.
func (c Check) container() string {
	if scope := c.Object.Scope(); isID(scope) {
		return scope
	}
	return c.Host
}

// apply is the command that makes the check's container as it should be.
func (c Check) apply() string { return strings.TrimSpace("phoenix apply " + c.container()) }

// inside is a command as it is typed on the hypervisor to run in the container that the check is about.
func (c Check) inside(command string) string {
	return strings.TrimSpace(c.Enter + " " + command)
}

func isID(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// How long what a check says may be, in bytes.
const (
	evidenceLimit = 400
	summaryLimit  = 200
	fixLimit      = 1000
)

// short makes evidence one line that fits a table, whoever said it: servers answer the hypervisor's checks too.
func short(s string) string {
	return clean.Line(strings.Join(strings.Fields(s[:min(len(s), 2*evidenceLimit)]), " "), evidenceLimit)
}

func summary(s string) string {
	return clean.Line(strings.Join(strings.Fields(s[:min(len(s), 2*summaryLimit)]), " "), summaryLimit)
}

// human writes a duration with its two largest units: 3h12m, 12d4h, 45s, 850ms.
func human(d time.Duration) string {
	if d < 0 {
		d = -d
	}
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d >= time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d/time.Millisecond)
}
