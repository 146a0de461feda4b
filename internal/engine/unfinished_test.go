package engine

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// slowStart is a driver whose change is made at once and takes long to be seen, as a container that was started and
// boots. It is not waited for when the work is to end.
type slowStart struct {
	texts
	begun chan struct{}
}

func (s *slowStart) Apply(ctx context.Context, h host.Host, a object.Address, want text, d plan.Delta) error {
	if err := s.texts.Apply(ctx, h, a, want, d); err != nil {
		return err
	}
	stoppable, end := provider.Stoppable(ctx)
	defer end()
	close(s.begun)
	<-stoppable.Done()
	return errors.Join(errors.New("it runs, and its boot is not waited for"), context.Cause(stoppable))
}

// A change that a round had begun when it was left is reported by the round that finds it made: once, as a change.
func TestAChangeOfARoundThatWasLeftIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	raw, err := json.Marshal(text{Path: path, Text: "right"})
	must(t, err)
	driver := &slowStart{begun: make(chan struct{})}
	var mu sync.Mutex
	var events []Event
	e := &Engine{Local: NewLocal(Drivers{"texts/file": provider.New(driver)}, &host.Local{}, nil, nil, nil),
		Patience: time.Nanosecond,
		Notify: func(ev Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, ev)
		}}
	objects := []object.Object{{Address: "file/1/x", Provider: "texts", Spec: raw}}

	stop, leave := context.WithCancelCause(context.Background())
	ctx, free := Interruptible(context.Background(), stop)
	defer free()
	go func() { <-driver.begun; leave(ErrLeft) }()
	r, err := e.Apply(ctx, objects)
	must(t, err)
	if !errors.Is(r.Err(), ErrLeft) {
		t.Fatalf("it was not left: %v", r.Err())
	}
	begun := func(ev Event) bool { return ev.Stage == Failed && ev.Mutations == 1 }
	if !slices.ContainsFunc(events, begun) {
		t.Errorf("nobody hears that a change was begun: %+v", events)
	}
	for round, want := range []Stage{Changed, True} {
		events = nil
		_, err = e.Apply(context.Background(), objects)
		must(t, err)
		if len(events) != 1 || events[0].Stage != want || want == Changed && events[0].Delta.Action != plan.Create {
			t.Errorf("round %d: %+v; want one event, %s", round, events, want)
		}
	}
}
