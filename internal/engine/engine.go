// Package engine runs the one loop that every command enters: observe, plan, apply, observe again. Together with the
// agent's pipe it is the only starter of goroutines.
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Target is a host with the drivers to keep objects true on it. Its methods may be called at once.
type Target interface {
	// Observe changes nothing.
	Observe(ctx context.Context, o object.Object) (provider.Observation, error)
	// Apply observes, applies what differs and observes again. It fails if a difference is left.
	Apply(ctx context.Context, o object.Object, c Consent) (Outcome, error)
}

// Outcome is what one Apply did.
type Outcome struct {
	Delta     plan.Delta           `json:"delta"`     // what differed before; empty: nothing was done
	After     provider.Observation `json:"after"`     // what was seen last, also where it failed
	Mutations int                  `json:"mutations"` // changing calls made on the host
}

// Consent is what the user agreed to lose.
type Consent struct {
	Destroy bool `json:"destroy,omitempty"` // objects may be replaced or deleted
}

// ErrDisconnected is a Target that was lost, such as the inside of a container that was restarted. Passing: connect
// anew.
var ErrDisconnected = errors.New("connection to the container was lost")

// ErrUnresponsive is a Target that was given up: it does not answer, or says what none may say. It is not tried again
// in the same Run.
var ErrUnresponsive = errors.New("the container does not answer as it should")

// Engine brings objects to their specs. The zero value of the optional fields is ready; one Engine does one Run at a
// time, unless each object is done Once at a time.
type Engine struct {
	Local Target
	// enters a container; called once per container and Run, and after ErrDisconnected
	Connect func(ctx context.Context, container string) (Target, error)
	Workers int // how many objects at once; 0: 16
	// how long passing failures of one object are tried again; 0: 60 s
	Patience time.Duration
	// hears what happens; called by one goroutine at a time
	Notify  func(Event)
	Consent Consent
	// Held, where there is one, gives the reason why an object is not to be touched in this Run, such as a failure not
	// long ago; nil: it may be. It may be called at once.
	Held func(object.Address) error
	// Once: Runs go on at once, and what one works at the others leave alone; they give it as a *HeldError.
	Once bool

	mu      sync.Mutex // guards claimed
	claimed map[object.Address]bool
	// Late, where it is not 0, is how long a Run waits for one object. One that takes longer goes on by itself, and is
	// left alone by the Runs after that until it has come to its end.
	Late time.Duration

	telling    sync.Mutex // held while Notify is called
	lates      lates
	unfinished unfinished
}

// Stage is where an object is on its way.
type Stage string

// The stages of an Event.
const (
	Waiting  Stage = "waiting"  // for a lock; Err is the *LockedError, and there is no Object
	Stopping Stage = "stopping" // nothing more is begun; there is no Object
	Changing Stage = "changing"
	Changed  Stage = "changed"
	Retrying Stage = "retrying"
	Failed   Stage = "failed"
	True     Stage = "true"
)

// Event tells what happens to an object.
type Event struct {
	Stage   Stage
	Object  object.Object
	Delta   plan.Delta
	Err     error
	Elapsed time.Duration
	Try     Try // of Retrying
	// Mutations is how many changes were made on the host before it Failed.
	Mutations int
}

// Try is where the tries of an object stand.
type Try struct {
	Failed int           // how many failed
	Next   time.Duration // until the next one
	Left   time.Duration // for how long it is tried again, from now
}

// Failure is an object that could not be made true.
type Failure struct {
	Address   object.Address `json:"address"`
	Source    object.Source  `json:"source,omitzero"`
	Err       error          `json:"-"`
	Message   string         `json:"message"`
	Hint      string         `json:"hint,omitempty"`
	BlockedBy object.Address `json:"blocked_by,omitempty"`

	begun, at time.Time // when it was begun, and when it failed
}

// Result is what a Run found and did.
type Result struct {
	Plan      plan.Plan
	Statuses  map[object.Address]provider.Observation
	Failures  []Failure
	Mutations int
}

// Err is nil when every object is true, else an error that names the failures that are not merely blocked.
func (r Result) Err() error {
	var errs []error
	for _, f := range r.Failures {
		if f.BlockedBy == "" {
			errs = append(errs, fmt.Errorf("%s: %w", f.Address, f.Err))
		}
	}
	return errors.Join(errs...)
}

// Plan tells what Apply would change.
func (e *Engine) Plan(ctx context.Context, objects []object.Object) (Result, error) {
	return e.run(ctx, objects, e.planOne)
}

// Apply makes the objects true, those that do not depend on one another at once. One that fails blocks only its
// dependents.
func (e *Engine) Apply(ctx context.Context, objects []object.Object) (Result, error) {
	return e.run(ctx, objects, e.applyOne)
}

// step does one object whose dependencies are done.
type step func(ctx context.Context, w *walk, o object.Object) done

// done is what came of one object.
type done struct {
	index     int
	delta     plan.Delta
	obs       provider.Observation
	pending   bool // planned, not true yet
	unseen    bool // planned without a look
	mutations int
	err       error
	begun, at time.Time // when it was begun, and when it was done
}

// roundLeast is from how many objects on one command for all is cheaper than one for each.
const roundLeast = 20

func (e *Engine) run(ctx context.Context, objects []object.Object, one step) (Result, error) {
	ordered, diags := plan.Order(objects)
	if err := diags.Err(); err != nil {
		return Result{}, err
	}
	if len(ordered) >= roundLeast {
		ctx = host.WithRound(ctx)
	}
	w := newWalk(e, ordered)
	return w.run(ctx, one), nil
}

func (e *Engine) planOne(ctx context.Context, w *walk, o object.Object) done {
	filled, missing, err := w.fill(o)
	if err != nil {
		return done{err: err}
	}
	if unknown := w.unknown(filled, missing); unknown != nil {
		d := done{delta: *unknown, pending: true, unseen: true}
		if o.Host == "" {
			// What stands there may still tell others what they need: a pin does while its CA is away.
			if obs, err := e.Local.Observe(ctx, filled); err == nil && len(obs.Status) > 0 {
				d.obs, d.delta.Action = obs, plan.Update
			}
		}
		return d
	}
	t, err := w.target(ctx, filled.Host)
	if err != nil {
		return done{err: err}
	}
	obs, err := t.Observe(ctx, filled)
	return done{delta: obs.Delta, obs: obs, pending: !obs.Delta.Empty(), err: err}
}

func (e *Engine) applyOne(ctx context.Context, w *walk, o object.Object) done {
	filled, missing, err := w.fill(o)
	if err != nil {
		return done{err: err}
	}
	if len(missing) > 0 {
		n := missing[0]
		return done{err: fmt.Errorf("%s has no %s in its status, which %s needs", n.From, n.Field, o.Address)}
	}
	if e.Held != nil {
		if err := e.Held(o.Address); err != nil {
			return done{err: err}
		}
	}
	unclaim, err := e.claim(ctx, o.Address)
	if err != nil {
		return done{err: err}
	}
	defer unclaim()
	start := time.Now()
	deadline := start.Add(e.patience())
	var out Outcome
	tries := 0
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		tries++
		again, err := e.try(ctx, w, filled)
		out.add(again)
		if err == nil {
			w.notify(outcomeEvent(filled, e.unfinished.complete(o.Address, out), time.Since(start)))
			return done{delta: out.Delta, obs: out.After, mutations: out.Mutations}
		}
		if ctx.Err() != nil && out.Delta.Empty() {
			return done{err: &notBegunError{err}}
		}
		if ctx.Err() != nil && out.Mutations > 0 {
			e.unfinished.note(o.Address, out.Delta)
		}
		if provider.IsPermanent(err) || hopeless(err) || errors.Is(err, ErrUnresponsive) || ctx.Err() != nil ||
			time.Now().Add(wait).After(deadline) {
			return done{delta: out.Delta, obs: out.After, mutations: out.Mutations, err: err}
		}
		w.notify(Event{Stage: Retrying, Object: filled, Delta: out.Delta, Err: err, Elapsed: time.Since(start),
			Try: Try{Failed: tries, Next: wait, Left: time.Until(deadline)}})
		if sleep(ctx, wait) != nil {
			return done{delta: out.Delta, obs: out.After, mutations: out.Mutations, err: err}
		}
	}
}

// hopeless is a failure that no other try mends, whoever had it: a program that is not installed, a file system that
// hangs.
func hopeless(err error) bool { return host.Missing(err) || errors.Is(err, host.ErrUnresponsive) }

// claimWait is how long an object that another Run works at is waited for: most are only looked at.
const claimWait = 500 * time.Millisecond

// claim keeps other Runs from an object; what it returns lets them have it again.
func (e *Engine) claim(ctx context.Context, a object.Address) (func(), error) {
	if !e.Once {
		return func() {}, nil
	}
	for end := time.Now().Add(claimWait); !e.take(a); {
		if time.Now().After(end) || sleep(ctx, 5*time.Millisecond) != nil {
			return nil, &HeldError{Until: time.Now().Add(heldFirst), Err: errWorkedAt}
		}
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.claimed, a)
	}, nil
}

func (e *Engine) take(a object.Address) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.claimed[a] {
		return false
	}
	if e.claimed == nil {
		e.claimed = map[object.Address]bool{}
	}
	e.claimed[a] = true
	return true
}

var errWorkedAt = errors.New("it is being worked at")

// add is one more try: what the ones before changed was changed too, also where they failed in the end.
func (o *Outcome) add(again Outcome) {
	if !again.Delta.Empty() && (o.Delta.Empty() || o.Mutations == 0) {
		o.Delta = again.Delta
	}
	o.After = again.After
	o.Mutations += again.Mutations
}

func outcomeEvent(o object.Object, out Outcome, elapsed time.Duration) Event {
	if out.Delta.Empty() {
		return Event{Stage: True, Object: o, Elapsed: elapsed}
	}
	return Event{Stage: Changed, Object: o, Delta: out.Delta, Elapsed: elapsed}
}

func (e *Engine) try(ctx context.Context, w *walk, o object.Object) (Outcome, error) {
	t, err := w.target(ctx, o.Host)
	if err != nil {
		return Outcome{}, err
	}
	out, err := t.Apply(ctx, o, e.Consent)
	if errors.Is(err, ErrDisconnected) {
		w.forget(o.Host, t)
	}
	return out, err
}

func (e *Engine) patience() time.Duration {
	if e.Patience == 0 {
		return time.Minute
	}
	return e.Patience
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
