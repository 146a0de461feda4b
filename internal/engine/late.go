package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

const (
	lateTold = 30 * time.Second       // at work for so long, an object is told of as one that fails
	lateLook = 100 * time.Millisecond // how often it is looked whether one has come to its end
)

// LateError is an object that takes longer than a Run waits for one. It goes on meanwhile, and is not begun a second
// time.
type LateError struct{ Since time.Time }

// Error implements error.
func (e *LateError) Error() string {
	return fmt.Sprintf("still at work after %s; all others go on", time.Since(e.Since).Round(time.Second))
}

// lates are the objects that no Run waits for any more.
type lates struct {
	group sync.WaitGroup
	mu    sync.Mutex // guards what follows
	since map[object.Address]time.Time
	told  map[object.Address]bool
	ended []ended // since they were asked for last
}

// ended is what came of an object that was late.
type ended struct {
	address object.Address
	done    done
}

// waitFor does one object, and waits for it as long as Late says.
func (e *Engine) waitFor(ctx context.Context, w *walk, o object.Object, one step) done {
	if e.Late == 0 {
		return one(ctx, w, o)
	}
	l := &e.lates
	if err := l.busy(o.Address); err != nil {
		return done{err: err}
	}
	start, result := time.Now(), make(chan done)
	givenUp := make(chan struct{})
	l.group.Go(func() {
		d := one(ctx, w, o)
		select {
		case result <- d:
		case <-givenUp:
			if d.err != nil && ctx.Err() == nil {
				w.notify(Event{Stage: Failed, Object: o, Delta: d.delta, Err: d.err})
			}
			l.end(o.Address, d)
		}
	})
	t := time.NewTimer(e.Late)
	defer t.Stop()
	select {
	case d := <-result:
		return d
	case <-t.C:
		l.begin(o.Address, start)
		close(givenUp)
		return done{err: &HeldError{Until: time.Now().Add(e.Late), Err: &LateError{start}}}
	}
}

// busy is why an object is not begun; nil: it is not late.
func (l *lates) busy(a object.Address) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, late := l.since[a]
	switch {
	case !late:
		return nil
	case time.Since(since) > lateTold && !l.told[a]:
		l.told[a] = true
		return &LateError{since}
	}
	return &HeldError{Until: time.Now().Add(lateLook), Err: &LateError{since}}
}

func (l *lates) begin(a object.Address, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since == nil {
		l.since, l.told = map[object.Address]time.Time{}, map[object.Address]bool{}
	}
	l.since[a] = since
}

func (l *lates) end(a object.Address, d done) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.since, a)
	delete(l.told, a)
	l.ended = append(l.ended, ended{a, d})
}

// take gives those that came to their end, and whether there are others.
func (l *lates) take() (list []ended, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list, l.ended = l.ended, nil
	return list, len(l.since) > 0
}
