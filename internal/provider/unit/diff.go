package unit

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Fields of a delta.
const (
	fieldFile    = "file"
	fieldDropIn  = "drop_in"
	fieldMasked  = "masked"
	fieldEnabled = "enabled"
	fieldLoaded  = "loaded"
	fieldState   = "state"
	fieldInputs  = "inputs"
	fieldReady   = "ready"
)

// enabledEnough also takes what systemctl enable does not change.
func enabledEnough(have *Status) bool {
	return slices.Contains([]string{"enabled", "static", "indirect", "generated", "transient", "alias"}, have.Enabled)
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Unit, have *Status) plan.Delta {
	if have == nil && want.Stopped && want.Content == "" && want.DropIn == "" {
		return plan.Delta{}
	}
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the unit does not exist"}
	}
	var d plan.Delta
	if want.Content != "" && have.File != want.Content {
		d.Compare(fieldFile, summary(have.File), summary(want.Content))
	}
	if have.DropIn != dropIn(want) {
		d.Compare(fieldDropIn, summary(have.DropIn), summary(dropIn(want)))
	}
	if want.Stopped {
		stopped(&d, have)
	} else {
		up(&d, want, have)
	}
	return d
}

func stopped(d *plan.Delta, have *Status) {
	if have.Enabled == "enabled" || have.Enabled == "enabled-runtime" {
		d.Compare(fieldEnabled, have.Enabled, "disabled")
	}
	if runs(have) {
		d.Compare(fieldState, have.Active, "inactive")
	}
}

func up(d *plan.Delta, want spec.Unit, have *Status) {
	if have.Load == "masked" {
		d.Compare(fieldMasked, have.Enabled, "no")
	}
	if !enabledEnough(have) {
		d.Compare(fieldEnabled, have.Enabled, "enabled")
	}
	if have.Stale {
		d.Compare(fieldLoaded, "older files", "the files on disk")
	}
	if want.AtBoot && !runs(have) {
		return
	}
	if have.Active != "active" {
		d.Compare(fieldState, have.Active+" ("+have.Sub+")", "active")
		return
	}
	if have.Mark != mark(want) {
		d.Compare(fieldInputs, short(have.Mark), short(mark(want)))
	}
	if want.Ready != "" && !have.Ready {
		d.Compare(fieldReady, "no connection", want.Ready+" accepts")
	}
}

// runs reports whether there is, or will be by itself, a process.
func runs(have *Status) bool { return have.Active != "inactive" && have.Active != "failed" }

// summary tells texts apart without showing them: a unit's lines may hold what others must not read.
func summary(text string) string {
	if text == "" {
		return "none"
	}
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%d bytes, sha256 %x", len(text), sum[:6])
}

func short(mark string) string { return mark[:min(12, len(mark))] }
