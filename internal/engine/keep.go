package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// How long a failed object is left alone: twice as long after each further failure. A change of what it rests on
// shortens that to heldLeast, so that what an apply itself changes is no reason to go on without a breath.
const (
	heldFirst     = 500 * time.Millisecond
	heldMost      = 15 * time.Second
	heldPermanent = time.Minute // trying again is of no use by itself; a person may have mended it
	heldLeast     = time.Second
)

// also is the name of Keeper.Also among what is watched.
const also object.Address = "also"

// Keeper does rounds: it makes objects true, waits until something has changed or is due, and goes on.
type Keeper struct {
	Engine *Engine // the Keeper sets its Patience and Held
	// Objects gives what to keep. A round that is not full may leave out what is costly to look at.
	Objects func(full bool) ([]object.Object, error)
	Full    time.Duration                   // how long until everything is looked at though nothing has changed
	Begin   func(ctx context.Context) error // waits until a round may begin; nil: at once
	Report  func(Round)                     // hears of each round; nil: nobody does
	// Also is watched besides what objects rest on, such as the configuration; a change of it makes the next round
	// full.
	Also provider.Watch
	// Apart: a round does not wait for one that takes long. Objects that are being worked at are left alone by the
	// others.
	Apart bool
	// Under, where there is one, gives the context of a round that is Apart, once its objects are known.
	Under func(context.Context) context.Context

	// true: objects in containers; their paths and processes are not this host's, and not watched from here
	inside map[object.Address]bool
	mu     sync.Mutex // guards what follows
	holds  map[object.Address]*hold
	woken  map[object.Address]time.Time // when what it rests on changed last
}

// Round is what one round found and did.
type Round struct {
	Woken  []object.Address // what had changed; none for the first round and those that were due
	Full   bool
	Result Result
	Next   time.Time
	Blind  error // why some changes will be seen at the next full round only
}

// Blindness tells a log once what is not seen when it changes, and once that it is again.
type Blindness struct{ told string }

// Tell takes a Round's Blind.
func (b *Blindness) Tell(log *slog.Logger, err error) {
	now := ""
	if err != nil {
		now = err.Error()
	}
	switch {
	case now == b.told:
	case now == "":
		log.Info("everything is watched again")
	default:
		log.Warn("not everything is watched; what is not is looked at by the timer", "error", err)
	}
	b.told = now
}

type hold struct {
	err      error
	failures int
	tried    time.Time
	until    time.Time
	released bool // what it rests on has changed since it was tried
}

// RetryText says when a Keeper tries again what failed for the first time.
func RetryText(err error) string {
	if provider.IsPermanent(err) || host.Missing(err) {
		return fmt.Sprintf("tried again every %s, and at once when it changes", heldPermanent)
	}
	return fmt.Sprintf("next attempt in %s, then up to %s apart", heldFirst, heldMost)
}

// HeldError says why an object is left alone for now.
type HeldError struct {
	Until time.Time
	Err   error
}

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%v (again at %s)", e.Err, e.Until.Format(time.TimeOnly))
}

// Unwrap gives what went wrong.
func (e *HeldError) Unwrap() error { return e.Err }

// Run goes on until ctx ends, and then returns nil. It fails where the objects cannot be known or the system cannot be
// watched.
func (k *Keeper) Run(ctx context.Context) error {
	wake, err := NewWake()
	if err != nil {
		return err
	}
	defer wake.Close()
	defer k.Engine.lates.group.Wait()
	k.holds, k.woken = map[object.Address]*hold{}, map[object.Address]time.Time{}
	k.inside = map[object.Address]bool{}
	k.Engine.Held, k.Engine.Patience = k.held, time.Nanosecond
	if k.Engine.Once = k.Apart; k.Apart {
		return k.apart(ctx, wake)
	}
	watches := map[object.Address]provider.Watch{}
	var woken []object.Address
	var fullDue time.Time
	for ctx.Err() == nil {
		full := !time.Now().Before(fullDue)
		began := time.Now()
		r, err := k.round(ctx, full, woken)
		if err != nil || ctx.Err() != nil {
			return unlessEnded(ctx, err)
		}
		if full {
			fullDue = time.Now().Add(k.Full)
		}
		before := watches
		watches = k.watches(r, before)
		added, err := wake.Watch(watches)
		r.Blind = err
		k.releaseUnwatched(r.Result, began, before, watches)
		if !full && len(r.Result.Plan.Changes) > 0 {
			fullDue = time.Time{} // what rests on what was changed is looked at too
		}
		if r.Next = k.next(r.Result, fullDue); added {
			r.Next = time.Now() // nobody saw what happened before it was watched
		}
		if k.Report != nil {
			k.Report(r)
		}
		settled := false
		if woken, settled, err = k.wait(ctx, wake, r.Next); err != nil {
			return unlessEnded(ctx, err)
		}
		if settled {
			fullDue = time.Time{} // what rests on it is looked at too
		}
		k.release(woken)
		if beyond, err := k.beyond(woken); err != nil {
			return err
		} else if beyond {
			fullDue = time.Time{}
			// nobody here sees when what keeps them from being true is gone
			k.release(slices.Collect(maps.Keys(k.inside)))
		}
	}
	return nil
}

// wait waits until something has changed or is due. settled: an object that was late has come to its end.
func (k *Keeper) wait(ctx context.Context, wake *Wake, next time.Time) (woken []object.Address,
	settled bool, err error) {
	for {
		list, more := k.Engine.lates.take()
		for _, e := range list {
			k.rememberLate(e)
		}
		pause := time.Until(next)
		if len(list) > 0 {
			pause = 0
		} else if more {
			pause = min(pause, lateLook)
		}
		woken, err = wake.Wait(ctx, pause)
		if err != nil || ctx.Err() != nil || len(list) > 0 || len(woken) > 0 || !time.Now().Before(next) {
			return woken, len(list) > 0, err
		}
	}
}

// watches are what this round's objects rest on. One that was not looked at, as it failed lately or is blocked, rests
// on what it did: a change of that is why it is looked at again.
func (k *Keeper) watches(r Round, before map[object.Address]provider.Watch) map[object.Address]provider.Watch {
	out := map[object.Address]provider.Watch{}
	if !r.Full {
		out = maps.Clone(before)
	}
	for a, s := range r.Result.Statuses {
		if !k.inside[a] {
			out[a] = s.Watch
		}
	}
	for _, f := range r.Result.Failures {
		unseen := len(r.Result.Statuses[f.Address].Status) == 0
		if old := before[f.Address]; !k.inside[f.Address] && !old.Empty() && (unseen || out[f.Address].Empty()) {
			out[f.Address] = old
		}
	}
	out[also] = k.Also
	return out
}

// beyond is whether something was woken that only a full round looks at.
func (k *Keeper) beyond(woken []object.Address) (bool, error) {
	if len(woken) == 0 {
		return false, nil
	}
	objects, err := k.Objects(false)
	near := map[object.Address]bool{}
	for _, o := range objects {
		near[o.Address] = true
	}
	return slices.ContainsFunc(woken, func(a object.Address) bool { return !near[a] }), err
}

func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (k *Keeper) round(ctx context.Context, full bool, woken []object.Address) (Round, error) {
	r := Round{Woken: woken, Full: full}
	if k.Begin != nil {
		if err := k.Begin(ctx); err != nil {
			return r, err
		}
	}
	objects, err := k.Objects(full)
	if err != nil {
		return r, err
	}
	for _, o := range objects {
		k.inside[o.Address] = o.Host != ""
	}
	r.Result, err = k.Engine.Apply(ctx, objects)
	k.remember(r.Result)
	if full && err == nil {
		k.forgetOthers(r.Result)
	}
	return r, err
}

func (k *Keeper) held(a object.Address) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.holds[a]; h != nil && time.Now().Before(h.until) {
		return &HeldError{Until: h.until, Err: h.err}
	}
	return nil
}

// remember counts failures of a round and forgets those of what is up to date again. What has changed since it failed
// may be why, so that it is not left alone for long: nothing wakes for that change again, and the round may have gone
// on for a while.
func (k *Keeper) remember(res Result) {
	k.mu.Lock()
	defer k.mu.Unlock()
	failed := make(map[object.Address]bool, len(res.Failures))
	for _, f := range res.Failures {
		failed[f.Address] = true
		var still *HeldError
		if f.BlockedBy != "" || errors.As(f.Err, &still) || errors.Is(f.Err, ErrLeft) {
			continue
		}
		var late *LateError
		if errors.As(f.Err, &late) {
			continue
		}
		k.fails(f.Address, f.Err)
		if k.changedSince(f) {
			k.holds[f.Address].release()
		}
	}
	for a := range res.Statuses {
		if !failed[a] {
			delete(k.holds, a)
		}
	}
}

// forgetOthers forgets the failures of objects that a full round did not have. Nothing of them is watched meanwhile:
// when they are to be kept again, as their container has come back to this node, nobody knows whether they still fail.
func (k *Keeper) forgetOthers(res Result) {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.holds, func(a object.Address, _ *hold) bool {
		_, had := res.Statuses[a]
		return !had
	})
	maps.DeleteFunc(k.woken, func(a object.Address, _ time.Time) bool {
		_, had := res.Statuses[a]
		return !had
	})
	k.Engine.unfinished.keep(res.Statuses)
}

// changedSince is whether what an object rests on changed after it failed. What may keep the inside of a container from
// being up to date is also on the hypervisor: no try inside changes that, and so it counts from when the try began,
// which may have looked before the change. The caller holds mu.
func (k *Keeper) changedSince(f Failure) bool {
	if k.woken[f.Address].After(f.at) {
		return true
	}
	for w, at := range k.woken {
		if k.inside[f.Address] && w.Scope() == f.Address.Scope() && at.After(f.begun) {
			return true
		}
	}
	return false
}

// fails notes one more failure. The caller holds mu.
func (k *Keeper) fails(a object.Address, err error) {
	h := k.holds[a]
	if h == nil {
		h = &hold{}
		k.holds[a] = h
	}
	h.err, h.tried, h.released = err, time.Now(), false
	wait := min(heldFirst<<min(h.failures, 10), heldMost)
	if provider.IsPermanent(err) || host.Missing(err) {
		wait = heldPermanent
	}
	h.until = h.tried.Add(wait)
	h.failures++
}

// rememberLate is remember for one that was late.
func (k *Keeper) rememberLate(e ended) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.done.err != nil {
		k.fails(e.address, e.done.err)
		return
	}
	delete(k.holds, e.address)
}

// release lets what has changed be tried again soon.
func (k *Keeper) release(woken []object.Address) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for _, a := range woken {
		if k.woken != nil {
			k.woken[a] = now
		}
		if h := k.holds[a]; h != nil {
			h.release()
		}
	}
}

func (h *hold) release() {
	h.released = true
	if h.until.After(h.tried.Add(heldLeast)) {
		h.until = h.tried.Add(heldLeast)
	}
}

// releaseUnwatched lets be tried again soon what failed before anything watched what it rests on: a change since then
// wakes nobody.
func (k *Keeper) releaseUnwatched(res Result, began time.Time, before, now map[object.Address]provider.Watch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range res.Failures {
		h := k.holds[f.Address]
		if h != nil && h.tried.After(began) && before[f.Address].Empty() && !now[f.Address].Empty() {
			h.release()
		}
	}
}

// heldInside are the failed objects inside the containers that something woken belongs to: what keeps them from being
// true may be on the hypervisor, such as a pin that another phoenix has replaced.
func (k *Keeper) heldInside(woken []object.Address) (out []object.Address) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for a := range k.holds {
		same := func(w object.Address) bool { return w.Scope() == a.Scope() }
		if k.inside[a] && slices.ContainsFunc(woken, same) {
			out = append(out, a)
		}
	}
	return out
}

// releasedInside is when the first of the released objects inside containers may be tried again, after a round that has
// just ended; false: there is none. One that the round left alone is due also where that moment has passed meanwhile.
func (k *Keeper) releasedInside(res Result) (at time.Time, some bool) {
	alone := map[object.Address]bool{}
	for _, f := range res.Failures {
		var still *HeldError
		alone[f.Address] = f.BlockedBy == "" && errors.As(f.Err, &still)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for a, h := range k.holds {
		waits := h.released && (alone[a] || h.until.After(time.Now())) // others are blocked, or were just tried
		if k.inside[a] && waits && (!some || h.until.Before(at)) {
			at, some = h.until, true
		}
	}
	return at, some
}

// next is when something is due.
func (k *Keeper) next(res Result, fullDue time.Time) time.Time {
	next := fullDue
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	for _, s := range res.Statuses {
		sooner(s.Next)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for a, h := range k.holds {
		if !k.Apart || !k.inside[a] { // a full round looks at the others
			sooner(h.until)
		}
	}
	// What was due and could not be done has a hold; without one it is looked at again soon, not at once.
	if soon := time.Now().Add(heldLeast / 2); next.Before(soon) {
		next = soon
	}
	return next
}
