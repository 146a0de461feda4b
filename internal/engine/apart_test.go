package engine

import (
	"context"
	"encoding/json"
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

// besideStuck keeps a file, beside a container in which nothing ends and one in which all is well.
func besideStuck(t *testing.T, bad *stuckInside, well *wellInside, full time.Duration) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "x")
	raw, err := json.Marshal(text{Path: path, Text: "right"})
	must(t, err)
	near := []object.Object{{Address: "file/101/x", Provider: "texts", Spec: raw}}
	all := append([]object.Object{
		{Address: "unit/201/a", Container: "201", Host: "201"}, {Address: "unit/201/b", Container: "201", Host: "201"},
		{Address: "unit/102/a", Container: "102", Host: "102"},
	}, near...)
	k := &Keeper{
		Engine: &Engine{
			Local: NewLocal(Drivers{"texts/file": provider.New(&texts{})}, &host.Local{}, nil, nil, nil),
			Connect: func(_ context.Context, id string) (Target, error) {
				return map[string]Target{"201": bad, "102": well}[id], nil
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
	t.Cleanup(func() { close(bad.letGo) })
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
