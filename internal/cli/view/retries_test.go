package view

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// What is tried again says so after a moment, now and then, with what it waits for; another failure later begins anew.
func TestRetriesAreSaid(t *testing.T) {
	var out, err strings.Builder
	l := &lines{out: &out, err: &err}
	at := func(stage engine.Stage, elapsed time.Duration, failed int) {
		l.event(engine.Event{Stage: stage, Object: object.Object{Address: "trust/102"}, Elapsed: elapsed,
			Err: errors.New("trust/102: no route\nto host"),
			Try: engine.Try{Failed: failed, Next: 2 * time.Second, Left: 48 * time.Second}})
	}
	at(engine.Retrying, 100*time.Millisecond, 1)
	if err.Len() > 0 {
		t.Errorf("said at once: %s", err.String())
	}
	for i, elapsed := range []time.Duration{2, 4, 6, 8, 10, 12, 14} {
		at(engine.Retrying, elapsed*time.Second, 6+i)
	}
	const first = "retrying trust/102: attempt 6 failed, next in 2s, for up to 48s more: no route\n"
	if got := err.String(); got != first+strings.Replace(first, "6", "11", 1) {
		t.Errorf("said:\n%s", got)
	}
	at(engine.True, 15*time.Second, 0)
	err.Reset()
	if at(engine.Retrying, 3*time.Second, 7); err.Len() == 0 || out.Len() > 0 {
		t.Errorf("not said again: %q, %q", err.String(), out.String())
	}
	w := &live{out: &out, width: 200, rows: map[string]*row{}}
	w.event(engine.Event{Stage: engine.Retrying, Object: object.Object{Address: "trust/102", Container: "102"},
		Err: errors.New("no route"), Try: engine.Try{Failed: 3, Next: 400 * time.Millisecond, Left: time.Minute}})
	if !strings.Contains(out.String(), "trust/102 attempt 3 failed, next in 400ms, for up to 1m0s more: no route") {
		t.Errorf("on a terminal: %q", out.String())
	}
}
