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
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// stalling is texts whose driver does not come to its end in one of its methods until it is let go.
type stalling struct {
	texts
	at    string
	let   chan struct{}
	begun atomic.Int32
}

func (m *stalling) stall(ctx context.Context, at string) error {
	if at != m.at {
		return nil
	}
	m.begun.Add(1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-m.let:
		return nil
	}
}

func (m *stalling) Observe(ctx context.Context, h host.Host, a object.Address, s text) (*text, error) {
	if err := m.stall(ctx, "observe"); err != nil {
		return nil, err
	}
	return m.texts.Observe(ctx, h, a, s)
}

func (m *stalling) Apply(ctx context.Context, h host.Host, a object.Address, s text, d plan.Delta) error {
	if err := m.stall(ctx, "apply"); err != nil {
		return err
	}
	if err := provider.Wait(ctx, func(ctx context.Context) error { return m.stall(ctx, "wait") }); err != nil {
		return err
	}
	return m.texts.Apply(ctx, h, a, s, d)
}

// Wherever one object hangs, another fault is repaired as if it did not; it is not begun a second time, and once it has
// come to its end what rests on it is done.
func TestNothingWaitsForOneObject(t *testing.T) {
	for _, at := range []string{"observe", "apply", "wait"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			slow := &stalling{at: at, let: make(chan struct{})}
			object1 := func(name, driver string, after ...object.Address) object.Object {
				raw, err := json.Marshal(text{Path: filepath.Join(dir, name), Text: "right"})
				must(t, err)
				return object.Object{Address: object.Address("file/1/" + name), Provider: driver, Spec: raw,
					After: after}
			}
			rounds := make(chan Round, 10_000)
			k := &Keeper{
				Engine: &Engine{
					Local: NewLocal(Drivers{"texts/file": provider.New(&texts{}),
						"stalling/file": provider.New(slow)}, &host.Local{}, nil, nil, nil),
					Workers: 2, Late: 100 * time.Millisecond,
				},
				Objects: func(bool) ([]object.Object, error) {
					return []object.Object{object1("slow", "stalling"), object1("other", "texts"),
						object1("after", "texts", "file/1/slow")}, nil
				},
				Full: time.Hour, Report: func(r Round) { rounds <- r },
			}
			ctx, cancel := context.WithCancel(context.Background())
			var group sync.WaitGroup
			group.Go(func() {
				if err := k.Run(ctx); err != nil {
					t.Errorf("run: %v", err)
				}
			})
			defer func() { cancel(); group.Wait() }()

			other := filepath.Join(dir, "other")
			right := func(path string) bool { b, err := os.ReadFile(path); return err == nil && string(b) == "right" }
			eventually(t, "the first round", func() bool { return right(other) })
			for range 5 {
				must(t, os.WriteFile(other, []byte("wrong"), 0o600))
				start := time.Now()
				eventually(t, "another fault", func() bool { return right(other) })
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("another fault waited %s", took)
				}
			}
			if n := slow.begun.Load(); n != 1 {
				t.Errorf("it was begun %d times", n)
			}
			if right(filepath.Join(dir, "after")) {
				t.Error("what rests on it was done before it")
			}
			close(slow.let)
			eventually(t, "what rests on it",
				func() bool { return right(filepath.Join(dir, "slow")) && right(filepath.Join(dir, "after")) })
			late := 0
			for range len(rounds) {
				for _, f := range (<-rounds).Result.Failures {
					var l *LateError
					if f.Address == "file/1/slow" && errors.As(f.Err, &l) {
						late++
					}
				}
			}
			if late == 0 {
				t.Error("no round told that it is late")
			}
		})
	}
}

func eventually(t *testing.T, what string, good func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !good(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + " never came")
		}
	}
}

// While a change waits for somebody elsewhere, another process may change this host; and who asks for the end does not
// wait for it.
func TestWaitLetsGoOfTheLock(t *testing.T) {
	dir := t.TempDir()
	lock := FileLock{Path: filepath.Join(dir, "lock")}.Lock
	slow := &stalling{at: "wait", let: make(chan struct{})}
	drivers := Drivers{"texts/file": provider.New(&texts{}), "stalling/file": provider.New(slow)}
	one, other := NewLocal(drivers, &host.Local{}, lock, nil, nil), NewLocal(drivers, &host.Local{}, lock, nil, nil)
	raw, err := json.Marshal(text{Path: filepath.Join(dir, "x"), Text: "right"})
	must(t, err)
	stop, halt := context.WithCancelCause(context.Background())
	ctx, cancel := Interruptible(context.Background(), stop)
	defer cancel()
	ended := make(chan error, 1)
	apply := func() {
		_, err := one.Apply(ctx, object.Object{Address: "file/1/x", Provider: "stalling", Spec: raw}, Consent{})
		ended <- err
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(apply)
	eventually(t, "the wait", func() bool { return slow.begun.Load() == 1 })
	limited, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	if _, err := other.Apply(limited, object.Object{Address: "file/1/x", Provider: "texts", Spec: raw},
		Consent{}); err != nil {
		t.Errorf("another process: %v", err)
	}
	why := errors.New("somebody asked")
	halt(why)
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the wait was not given up")
	}
	unlock, err := lock(limited)
	if err != nil {
		t.Fatalf("the lock was left behind: %v", err)
	}
	unlock()
}

// What a change does after its wait, it does under the lock again.
func TestWaitTakesTheLockAgain(t *testing.T) {
	dir := t.TempDir()
	lock := FileLock{Path: filepath.Join(dir, "lock")}.Lock
	slow := &stalling{at: "wait", let: make(chan struct{})}
	one := NewLocal(Drivers{"stalling/file": provider.New(slow)}, &host.Local{}, lock, nil, nil)
	raw, err := json.Marshal(text{Path: filepath.Join(dir, "x"), Text: "right"})
	must(t, err)
	ended := make(chan error, 1)
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		_, err := one.Apply(context.Background(), object.Object{Address: "file/1/x", Provider: "stalling", Spec: raw},
			Consent{})
		ended <- err
	})
	eventually(t, "the wait", func() bool { return slow.begun.Load() == 1 })
	unlock, err := lock(t.Context())
	must(t, err)
	close(slow.let)
	select {
	case err := <-ended:
		t.Errorf("it changed what another process held: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	unlock()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
