package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// HoldError is a change that held the lock for longer than it may, and was given up. Passing: it is tried again.
type HoldError struct {
	Address object.Address
	Most    time.Duration
}

// Error implements error.
func (e *HoldError) Error() string {
	return fmt.Sprintf("%s held the lock for %s, which is all it may: it was given up so that others go on", e.Address,
		e.Most)
}

// holding is the lock that one change holds, and its releases in between.
type holding struct {
	target  *LocalTarget
	stop    context.Context // ends when somebody asks for the end of the work
	lasting context.Context // a change that was begun lasts as long
	unlock  func()
	free    bool // the lock is released: a wait in a wait has nothing to release

	most   time.Duration
	over   *time.Timer // ends the change; nil: it may hold the lock for ever
	cancel context.CancelCauseFunc
}

// begin gives the context of the change: it ends where the lock is held for too long at a stretch.
func (l *holding) begin(o object.Object) context.Context {
	ctx, cancel := context.WithCancelCause(l.lasting)
	l.cancel = cancel
	if l.target.Most != nil {
		l.most = l.target.Most(o)
	}
	if l.most > 0 {
		l.over = time.AfterFunc(l.most, func() { cancel(&HoldError{Address: o.Address, Most: l.most}) })
	}
	ctx = provider.Waiting(ctx, l.wait)
	return provider.WithAlone(ctx, l.alone)
}

// end releases the lock.
func (l *holding) end() {
	if l.over != nil {
		l.over.Stop()
	}
	l.cancel(nil)
	l.unlock()
}

// wait is provider.Wait: do's context ends when somebody asks for the end of the work.
func (l *holding) wait(do func(context.Context) error) error {
	return l.released(func() error {
		ctx, free := l.stoppable()
		defer free()
		return do(ctx)
	})
}

// alone is provider.Alone. Nobody waits for a key while he holds the lock, so that no two wait for each other.
func (l *holding) alone(key string, do func(context.Context) error) error {
	return l.released(func() error {
		if l.target.Key != nil {
			ctx, free := l.stoppable()
			defer free()
			unlock, err := l.target.Key(ctx, key)
			if err != nil {
				return err
			}
			defer unlock()
		}
		if l.stop.Err() != nil {
			return Ended(l.stop) // asked for while the key was waited for
		}
		return do(l.lasting)
	})
}

func (l *holding) stoppable() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(l.lasting)
	unhook := context.AfterFunc(l.stop, func() { cancel(context.Cause(l.stop)) })
	return ctx, func() { unhook(); cancel(nil) }
}

// released does something without the lock, and takes it again.
func (l *holding) released(do func() error) error {
	if l.free {
		return do()
	}
	if l.over != nil {
		l.over.Stop()
	}
	l.unlock()
	l.unlock, l.free = func() {}, true
	err := do()
	l.free = false
	again, lockErr := l.target.lock(l.lasting)
	if lockErr != nil {
		return errors.Join(err, lockErr)
	}
	if l.unlock = again; l.over != nil {
		l.over.Reset(l.most)
	}
	return err
}
