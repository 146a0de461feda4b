package engine

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// starting is texts whose driver runs a program that takes long, as the start of a unit does.
type starting struct {
	texts
	let   chan struct{}
	begun atomic.Int32
	alone bool // outside of the lock
}

func (m *starting) Apply(ctx context.Context, h host.Host, a object.Address, s text, d plan.Delta) error {
	run := func(ctx context.Context) error {
		if have, err := m.Observe(ctx, h, a, s); err != nil || m.Diff(s, have).Empty() {
			return err
		}
		m.begun.Add(1)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.let:
		}
		return m.texts.Apply(ctx, h, a, s, d)
	}
	if m.alone {
		return provider.Alone(ctx, "program", run)
	}
	return run(ctx)
}

// processes are two processes on one host, with the locks that hold between them.
func processes(dir string, d Drivers) (one, other *LocalTarget) {
	make1 := func() *LocalTarget {
		t := NewLocal(d, &host.Local{}, FileLock{Path: filepath.Join(dir, "lock")}.Lock, nil, nil)
		t.Key = func(ctx context.Context, key string) (func(), error) {
			return FileLock{Path: filepath.Join(dir, "lock-"+key)}.Lock(ctx)
		}
		return t
	}
	return make1(), make1()
}

func textObject(t *testing.T, dir, driver, name string) object.Object {
	t.Helper()
	raw, err := json.Marshal(text{Path: filepath.Join(dir, name), Text: "right"})
	must(t, err)
	return object.Object{Address: object.Address("file/1/" + name), Provider: driver, Spec: raw}
}

// A program that takes long is run outside of the lock: the fault that another process mends does not wait for it. No
// other process runs it at the same time, or a second time. Who asks for the end of the work does not cut it off.
func TestAloneHoldsNobodyUp(t *testing.T) {
	dir := t.TempDir()
	slow := &starting{let: make(chan struct{}), alone: true}
	one, other := processes(dir, Drivers{"texts/file": provider.New(&texts{}), "starting/file": provider.New(slow)})
	stop, halt := context.WithCancelCause(context.Background())
	ctx, cancel := Interruptible(context.Background(), stop)
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	ended := make(chan error, 2)
	apply := func(ctx context.Context, p *LocalTarget) {
		group.Go(func() {
			_, err := p.Apply(ctx, textObject(t, dir, "starting", "slow"), Consent{})
			ended <- err
		})
	}
	apply(ctx, one)
	eventually(t, "the program", func() bool { return slow.begun.Load() == 1 })
	apply(t.Context(), other)
	for _, name := range []string{"a", "b"} { // also while the other process waits for its turn
		if _, err := other.Apply(t.Context(), textObject(t, dir, "texts", name), Consent{}); err != nil {
			t.Errorf("another fault: %v", err)
		}
	}
	halt(errors.New("somebody asked"))
	select {
	case err := <-ended:
		t.Errorf("it was cut off, or done twice at once: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(slow.let)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := slow.begun.Load(); n != 1 {
		t.Errorf("it was run %d times", n)
	}
}

// What hangs under the lock is given up when its time is over; others have the lock then. Time that was waited without
// the lock does not count.
func TestALockIsHeldForAWhileOnly(t *testing.T) {
	for alone, wantErr := range map[bool]bool{false: true, true: false} {
		dir := t.TempDir()
		slow := &starting{let: make(chan struct{}), alone: alone}
		one, other := processes(dir, Drivers{"texts/file": provider.New(&texts{}), "starting/file": provider.New(slow)})
		one.Most = func(object.Object) time.Duration { return 100 * time.Millisecond }
		if alone {
			one.Most = func(object.Object) time.Duration { return time.Second }
			time.AfterFunc(1200*time.Millisecond, func() { close(slow.let) })
		}
		_, err := one.Apply(t.Context(), textObject(t, dir, "starting", "slow"), Consent{})
		var held *HoldError
		if wantErr != (errors.As(err, &held) && strings.Contains(err.Error(), "file/1/slow held the lock for")) {
			t.Errorf("alone: %t: %v", alone, err)
		}
		if provider.IsPermanent(err) {
			t.Errorf("it would not be tried again: %v", err)
		}
		if _, err := other.Apply(t.Context(), textObject(t, dir, "texts", "a"), Consent{}); err != nil {
			t.Errorf("another fault: %v", err)
		}
	}
}
