package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// ErrLeft is why a round was given up that took too long: what it had begun to change comes to its end.
var ErrLeft = errors.New("the round was left: something else in it takes too long")

const (
	// a full round is left so soon where another is wanted at once; twice as late each time, until one comes to its end
	leaveEarly = 2 * time.Second
	breath     = 500 * time.Millisecond // between two full rounds, whatever happens
	stuck      = time.Second            // a round that is not full and takes so long is not waited for
	// until an object that another round worked at is looked at; twice as long each time
	again1      = 100 * time.Millisecond
	flightsMost = 8 // rounds that go on at once
)

// flight is a round that goes on by itself.
type flight struct {
	Round
	began time.Time
	leave context.CancelCauseFunc // nothing more is begun in it
	err   error
}

// sky is the state of a Keeper whose rounds are Apart. It is for one goroutine; flights come back over landed.
type sky struct {
	*Keeper
	ctx      context.Context
	wake     *Wake
	landed   chan *flight
	flying   int
	full     *flight // the newest full round, while it goes on
	fullDue  time.Time
	near     *flight // the newest other round, while it goes on
	nearDue  time.Time
	tryAgain time.Duration
	blind    error         // of the last round
	patience time.Duration // how long a full round goes on where another is wanted; 0: leaveEarly
	watches  map[object.Address]provider.Watch
	lastFull time.Time // when it began
}

// apart is Run where no round waits for another: a full one enters containers, and whatever they do, what only the
// hypervisor is needed for is repaired meanwhile.
func (k *Keeper) apart(ctx context.Context, wake *Wake) error {
	s := &sky{Keeper: k, ctx: ctx, wake: wake, landed: make(chan *flight, flightsMost),
		watches: map[object.Address]provider.Watch{},
		nearDue: time.Now().Add(k.Full)}
	defer s.end()
	for ctx.Err() == nil {
		if err := s.start(); err != nil {
			return unlessEnded(ctx, err)
		}
		woken, err := wake.Wait(ctx, time.Until(s.due()))
		if err != nil {
			return unlessEnded(ctx, err)
		}
		if err := s.land(); err != nil {
			return unlessEnded(ctx, err)
		}
		if err := s.woken(woken); err != nil {
			return err
		}
	}
	return nil
}

// end waits for what was begun.
func (s *sky) end() {
	for ; s.flying > 0; s.flying-- {
		<-s.landed
	}
}

// start begins the rounds that are due.
func (s *sky) start() error {
	now := time.Now()
	if !now.Before(s.fullAt()) {
		s.leaveFull(now)
		return s.begin(true, now)
	}
	if !now.Before(s.nearAt()) && s.flying < flightsMost-1 {
		return s.begin(false, now)
	}
	return nil
}

// nearAt is when another round may begin: not while one goes on that is not stuck.
func (s *sky) nearAt() time.Time {
	if s.near == nil {
		return s.nearDue
	}
	return later(s.nearDue, s.near.began.Add(stuck))
}

// fullAt is when a full round may begin: not while another goes on, unless that takes too long.
func (s *sky) fullAt() time.Time {
	at := later(s.fullDue, s.lastFull.Add(breath))
	if s.full == nil {
		return at
	}
	if s.fullDue.IsZero() {
		return later(at, s.full.began.Add(min(max(leaveEarly, s.patience), s.Full)))
	}
	return later(at, s.full.began.Add(s.Full))
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// leaveFull lets the full round that goes on begin nothing more.
func (s *sky) leaveFull(now time.Time) {
	if s.full == nil {
		s.patience = 0
		return
	}
	if lasted := now.Sub(s.full.began); lasted < s.Full {
		s.patience = 2 * max(leaveEarly, s.patience)
	} else {
		s.patience = 0
	}
	s.full.leave(ErrLeft)
	if s.Report != nil {
		s.Report(Round{Full: true, Next: now, Blind: s.blind})
	}
	s.full = nil
}

// due is when something is to be begun. Where too many rounds go on, that is when one of them comes back.
func (s *sky) due() time.Time {
	at := s.fullAt()
	if near := s.nearAt(); s.flying < flightsMost-1 && near.Before(at) {
		at = near
	}
	return at
}

func (s *sky) begin(full bool, now time.Time) error {
	objects, err := s.Objects(full)
	if err != nil {
		return err
	}
	for _, o := range objects {
		s.inside[o.Address] = o.Host != ""
	}
	stop, leave := context.WithCancelCause(s.ctx)
	ctx, free := Interruptible(Lasting(s.ctx), stop)
	if s.Under != nil {
		ctx = s.Under(ctx)
	}
	f := &flight{Round: Round{Full: full}, began: now, leave: leave}
	if s.nearDue = now.Add(s.Full); full {
		s.full, s.lastFull, s.fullDue = f, now, now.Add(s.Full)
		// nothing is watched before a round has come back, and a container may make this one last
		if len(s.watches) == 0 {
			s.nearDue = now.Add(breath)
		}
	} else {
		s.near = f
	}
	s.flying++
	go func() {
		defer free()
		f.Result, f.err = s.Engine.Apply(ctx, objects)
		s.landed <- f
		s.wake.Poke()
	}()
	return nil
}

// land takes the rounds that came back.
func (s *sky) land() error {
	for {
		select {
		case f := <-s.landed:
			s.flying--
			if err := s.landing(f); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (s *sky) landing(f *flight) error {
	f.leave(nil)
	if s.ctx.Err() != nil {
		return nil
	}
	if f.err != nil {
		return f.err
	}
	s.remember(f.Result)
	newest := f == s.full
	if newest {
		s.forgetOthers(f.Result)
		s.full, s.patience = nil, 0
		if !s.fullDue.IsZero() {
			s.fullDue = time.Now().Add(s.Full)
			// One that was left alone in this round is looked at as soon as it may be, and not with the next alone.
			if at, some := s.releasedInside(f.Result); some && at.Before(s.fullDue) {
				s.fullDue = at
			}
		}
	}
	if f == s.near {
		s.near = nil
	}
	if !f.Full && len(f.Result.Plan.Changes) > 0 {
		s.fullDue = time.Time{} // what rests on what was changed is looked at too
	}
	before := s.watches
	s.watches = s.seen(f, newest)
	added, err := s.wake.Watch(s.watches)
	f.Blind, s.blind = err, err
	s.releaseUnwatched(f.Result, f.began, before, s.watches)
	if s.nearDue = s.next(f.Result, s.nearDue); added {
		s.nearDue = time.Now() // nobody saw what happened before it was watched
	}
	s.missed(f)
	f.Next = s.due()
	if s.Report != nil && (newest || !f.Full) {
		s.Report(f.Round)
	}
	return nil
}

// missed makes due what the round left alone as another worked at it.
func (s *sky) missed(f *flight) {
	if !errors.Is(f.Result.Err(), errWorkedAt) {
		s.tryAgain = 0
		return
	}
	s.tryAgain = max(again1, min(2*s.tryAgain, stuck))
	if at := time.Now().Add(s.tryAgain); at.Before(s.nearDue) {
		s.nearDue = at
	}
}

// seen are the watches after a round that came back. Only a full one that was not left has seen everything: what a
// later one keeps besides is watched on.
func (s *sky) seen(f *flight, newest bool) map[object.Address]provider.Watch {
	r := f.Round
	r.Full = newest
	return s.Keeper.watches(r, s.watches)
}

// woken makes due what has to be looked at again.
func (s *sky) woken(woken []object.Address) error {
	if len(woken) == 0 {
		return nil
	}
	s.release(woken)
	s.nearDue, s.tryAgain = time.Now(), 0
	if held := s.heldInside(woken); len(held) > 0 {
		s.fullDue = time.Time{}
		s.release(held)
	}
	beyond, err := s.beyond(woken)
	if err != nil || !beyond {
		return err
	}
	s.fullDue = time.Time{}
	s.release(slices.Collect(maps.Keys(s.inside))) // nobody here sees when what keeps them from being true is gone
	return nil
}
