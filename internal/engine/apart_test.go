package engine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// stuckInside is a container in which nothing comes to an end before its context does, or before it is let go.
type stuckInside struct {
	asked atomic.Int32
	lasts bool // also what is begun goes on
	letGo chan struct{}
}

func (s *stuckInside) Observe(ctx context.Context, _ object.Object) (provider.Observation, error) {
	<-ctx.Done()
	return provider.Observation{}, Ended(ctx)
}

func (s *stuckInside) Apply(ctx context.Context, _ object.Object, _ Consent) (Outcome, error) {
	s.asked.Add(1)
	if s.lasts {
		ctx = Lasting(ctx)
	}
	select {
	case <-ctx.Done():
		return Outcome{}, Ended(ctx)
	case <-s.letGo:
		return Outcome{}, nil
	}
}

// wellInside is a container in which all is well.
type wellInside struct{ asked atomic.Int32 }

func (w *wellInside) Observe(context.Context, object.Object) (provider.Observation, error) {
	return provider.Observation{}, nil
}

func (w *wellInside) Apply(context.Context, object.Object, Consent) (Outcome, error) {
	w.asked.Add(1)
	return Outcome{}, nil
}

// A container in which nothing ends holds up neither what only the hypervisor is needed for, nor the looks into the
// others.
func TestNoRoundWaitsForOneContainer(t *testing.T) {
	for name, lasts := range map[string]bool{"looks": false, "changes": true} {
		t.Run(name, func(t *testing.T) {
			bad, well := &stuckInside{lasts: lasts, letGo: make(chan struct{})}, &wellInside{}
			path := besideStuck(t, bad, well, 300*time.Millisecond)
			for range 3 {
				comes(t, "the file",
					func() bool { b, err := os.ReadFile(path); return err == nil && string(b) == "right" })
				comes(t, "a look into 201", func() bool { return bad.asked.Load() > 0 })
				must(t, os.Remove(path))
			}
			looks := well.asked.Load()
			comes(t, "more looks into 102", func() bool { return well.asked.Load() > looks+2 })
			if n := bad.asked.Load(); lasts && n > 2 {
				t.Errorf("what is being changed was begun again: %d times", n)
			}
		})
	}
}

// brokenInside is a container in which nothing succeeds, and trying again is of no use, until it is mended.
type brokenInside struct {
	wellInside
	mended atomic.Bool
}

func (b *brokenInside) Apply(ctx context.Context, o object.Object, c Consent) (Outcome, error) {
	out, _ := b.wellInside.Apply(ctx, o, c)
	if !b.mended.Load() {
		return out, provider.Permanent(errors.New("broken"))
	}
	return out, nil
}

// What failed in a container is tried again when something of that container has changed on the hypervisor, which may
// be why it failed: soon, though it was tried a moment ago, and once. A change of another container's is no reason.
func TestAChangeOutsideLetsTheInsideBeTriedAgain(t *testing.T) {
	broken := &brokenInside{}
	path := beside(t, "101", broken, &wellInside{}, 10*time.Minute)
	other := filepath.Join(filepath.Dir(path), "y")
	comes(t, "a look into 101", func() bool { return broken.asked.Load() >= 2 })
	comes(t, "the other's file", func() bool { _, err := os.Stat(other); return err == nil })
	time.Sleep(heldLeast) // until nothing is due
	tries := broken.asked.Load()
	must(t, os.Remove(other))
	comes(t, "the other's file", func() bool { _, err := os.Stat(other); return err == nil })
	time.Sleep(2 * heldLeast)
	if n := broken.asked.Load(); n != tries {
		t.Errorf("another container's change: tried %d times", n-tries)
	}
	there := func() bool { _, err := os.Stat(path); return err == nil }
	for range 2 { // the second comes right after a try
		comes(t, "the file", there)
		must(t, os.Remove(path))
		comes(t, "another try", func() bool { return broken.asked.Load() > tries })
		tries = broken.asked.Load()
	}
	broken.mended.Store(true)
	comes(t, "the file", there)
	must(t, os.Remove(path))
	comes(t, "a try that succeeds", func() bool { return broken.asked.Load() > tries })
}

// besideStuck keeps a file, beside a container in which nothing ends and one in which all is well.
func besideStuck(t *testing.T, bad *stuckInside, well *wellInside, full time.Duration) (path string) {
	t.Helper()
	path = beside(t, "201", bad, well, full)
	t.Cleanup(func() { close(bad.letGo) }) // before it is waited for
	return path
}

// beside keeps the files of 101 and of 105, beside a container that is given and one in which all is well.
func beside(t *testing.T, idOfBad string, bad Target, well *wellInside, full time.Duration) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "x")
	file := func(address, path string) object.Object {
		raw, err := json.Marshal(text{Path: path, Text: "right"})
		must(t, err)
		return object.Object{Address: object.Address(address), Provider: "texts", Spec: raw}
	}
	near := []object.Object{file("file/101/x", path), file("file/105/y", filepath.Join(filepath.Dir(path), "y"))}
	unit := func(id, name string) object.Object {
		return object.Object{Address: object.NewAddress("unit", id, name), Container: id, Host: id}
	}
	all := append([]object.Object{unit(idOfBad, "a"), unit(idOfBad, "b"), unit("102", "a")}, near...)
	k := &Keeper{
		Engine: &Engine{
			Local: NewLocal(Drivers{"texts/file": provider.New(&texts{})}, &host.Local{}, nil, nil, nil),
			Connect: func(_ context.Context, id string) (Target, error) {
				return map[string]Target{idOfBad: bad, "102": well}[id], nil
			},
		},
		Objects: func(full bool) ([]object.Object, error) {
			if full {
				return all, nil
			}
			return near, nil
		},
		Full: full, Apart: true,
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := k.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return path
}

// The first round watches nothing before it has come back: where a container makes it last, the others are watched all
// the same.
func TestTheFirstRoundMayLast(t *testing.T) {
	bad := &stuckInside{lasts: true, letGo: make(chan struct{})}
	path := besideStuck(t, bad, &wellInside{}, 10*time.Minute)
	for range 3 {
		comes(t, "the file", func() bool { b, err := os.ReadFile(path); return err == nil && string(b) == "right" })
		comes(t, "a look into 201", func() bool { return bad.asked.Load() > 0 })
		must(t, os.Remove(path))
	}
	comes(t, "the file, beside a first round that lasts", func() bool { _, err := os.Stat(path); return err == nil })
}

func comes(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// What failed and is not kept any more is looked at at once when it is to be kept again.
func TestWhatIsNotKeptIsNotHeld(t *testing.T) {
	later := &hold{until: time.Now().Add(time.Hour), err: errors.New("elsewhere")}
	k := &Keeper{Engine: &Engine{}, holds: map[object.Address]*hold{"ids/101": later, "ids/103": later}}
	k.forgetOthers(Result{Statuses: map[object.Address]provider.Observation{"ids/101": {}}})
	if k.held("ids/103") != nil || k.held("ids/101") == nil {
		t.Errorf("held: %v, %v", k.held("ids/103"), k.held("ids/101"))
	}
}

// What is left counts as no failure.
func TestLeftIsNoFailure(t *testing.T) {
	k := &Keeper{holds: map[object.Address]*hold{}}
	k.remember(Result{Failures: []Failure{{Address: "unit/201/a",
		Err: &notBegunError{&endedError{cause: ErrLeft, err: context.Canceled}}}}})
	if len(k.holds) > 0 {
		t.Error("it is held")
	}
	if Advice(&endedError{cause: ErrLeft, err: context.Canceled}) != "" {
		t.Error("an advice for nothing")
	}
}

// A round may go on for long after an object of it failed. What changed meanwhile wakes nobody again, so that the
// object is tried again soon: also inside of the container whose part on the hypervisor has changed.
func TestAChangeSinceAFailureIsNotLost(t *testing.T) {
	k := &Keeper{holds: map[object.Address]*hold{}, woken: map[object.Address]time.Time{},
		inside: map[object.Address]bool{"unit/101/a": true, "unit/102/a": true}}
	before := time.Now()
	k.release([]object.Address{"ids/101"})
	fails := func(a object.Address, at time.Time) Failure {
		return Failure{Address: a, Err: provider.Permanent(errors.New("broken")), at: at}
	}
	k.remember(Result{Failures: []Failure{fails("ids/101", before), fails("unit/101/a", before),
		fails("running/101", before), fails("unit/102/a", before), fails("ids/103", time.Now())}})
	for a, soon := range map[object.Address]bool{"ids/101": true, "unit/101/a": true, "running/101": false,
		"unit/102/a": false, "ids/103": false} {
		if left := time.Until(k.holds[a].until); left > heldPermanent/2 == soon {
			t.Errorf("%s is left alone for %s", a, left)
		}
	}
	k.release([]object.Address{"ids/103"})
	k.remember(Result{Failures: []Failure{fails("ids/103", time.Now())}})
	if left := time.Until(k.holds["ids/103"].until); left < heldPermanent/2 {
		t.Errorf("it failed again after the change, and is left alone for %s only", left)
	}
}

// What failed before it was watched is tried again soon: a change since then woke nobody. Once it is watched it is left
// alone.
func TestWhatFailedUnwatchedIsTriedAgain(t *testing.T) {
	k := &Keeper{holds: map[object.Address]*hold{}}
	res := Result{Failures: []Failure{{Address: "ids/103", Err: provider.Permanent(errors.New("broken"))}}}
	none := map[object.Address]provider.Watch{}
	some := map[object.Address]provider.Watch{"ids/103": {Paths: []string{"/x"}}}
	for _, before := range []map[object.Address]provider.Watch{none, some} {
		began := time.Now()
		k.remember(res)
		k.releaseUnwatched(res, began, before, some)
		if left := time.Until(k.holds["ids/103"].until); left > heldPermanent/2 == before["ids/103"].Empty() {
			t.Errorf("watched before: %t; it is left alone for %s", !before["ids/103"].Empty(), left)
		}
	}
}

// Where another full round is wanted, one that lasts is left after two seconds, the next after four, and so on: neither
// does it keep others waiting for a whole interval, nor do all of them get left.
func TestFullRoundsAreLeftLaterEachTime(t *testing.T) {
	const full = 15 * time.Second
	s := &sky{Keeper: &Keeper{Full: full}}
	now := time.Now()
	for i, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, full, 2 * time.Second} {
		_, leave := context.WithCancelCause(context.Background())
		s.full, s.lastFull, s.fullDue = &flight{began: now, leave: leave}, now, time.Time{}
		if got := s.fullAt().Sub(now); got != want {
			t.Errorf("round %d: left after %s; want %s", i, got, want)
		}
		now = s.fullAt()
		s.leaveFull(now)
	}
}
