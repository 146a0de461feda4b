package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// A change on the hypervisor while a try inside a container goes on may come after what the try looked at: it counts.
// What an object on the hypervisor rests on may be changed by the try itself, and is no reason to hurry.
func TestAChangeDuringATryCounts(t *testing.T) {
	start := time.Now()
	for address, want := range map[object.Address]bool{"unit/101/a": true, "unit/102/a": false, "file/101/x": false} {
		k := &Keeper{holds: map[object.Address]*hold{}, inside: map[object.Address]bool{"unit/101/a": true,
			"unit/102/a": true},
			woken: map[object.Address]time.Time{"file/101/x": start.Add(time.Second)}}
		k.remember(Result{Failures: []Failure{{Address: address, Err: errors.New("no"), begun: start,
			at: start.Add(2 * time.Second)}}})
		if h := k.holds[address]; h == nil || h.released != want {
			t.Errorf("%s: released %v, want %v", address, h.released, want)
		}
	}
}

// One that a full round left alone, as it came a moment too soon, is due though the moment has passed by its end. One
// that waits for another object is not: nothing would come of it.
func TestWhatWasLeftAloneIsDue(t *testing.T) {
	past := time.Now().Add(-time.Second)
	for _, c := range []struct {
		failure Failure
		want    bool
	}{
		{Failure{Address: "unit/101/a", Err: &HeldError{Until: past, Err: errors.New("no")}}, true},
		{Failure{Address: "unit/101/a", Err: errors.New("no"), BlockedBy: "file/101/x"}, false},
	} {
		k := &Keeper{holds: map[object.Address]*hold{"unit/101/a": {released: true, until: past}},
			inside: map[object.Address]bool{"unit/101/a": true}}
		if at, some := k.releasedInside(Result{Failures: []Failure{c.failure}}); some != c.want || some && at != past {
			t.Errorf("%v: due %v at %s", c.failure.Err, some, at)
		}
	}
}
