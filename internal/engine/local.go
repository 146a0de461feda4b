package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Drivers has every driver by provider/kind, such as dir/volume.
type Drivers map[string]provider.Erased

// Find gives an object's driver.
func (d Drivers) Find(o object.Object) (provider.Erased, error) {
	driver, ok := d[o.Provider+"/"+o.Address.Kind()]
	if !ok {
		return nil, provider.Permanent(fmt.Errorf("%s: no provider %q for %s objects in this phoenix", o.Address,
			o.Provider, o.Address.Kind()))
	}
	return driver, nil
}

// LocalTarget is the host that phoenix itself runs on. Lock, where there is one, is held around every change, so that
// two processes do not change one host at once; what it returns unlocks. Make it with NewLocal.
type LocalTarget struct {
	Patience time.Duration // Remove waits so long for others' work on an object; 0: a minute
	Busy     func(error)   // hears that it does; nil: nobody
	// Key gives the lock of what is done outside of the lock and yet by one process at a time; nil: there are no others.
	Key func(ctx context.Context, key string) (func(), error)
	// Most is how long a change of an object may hold the lock; nil, or 0: for ever.
	Most func(object.Object) time.Duration

	drivers  Drivers
	host     host.Host
	lock     func(ctx context.Context) (func(), error)
	changing func(object.Object, plan.Delta)
	watch    func(string)
}

var _ Target = (*LocalTarget)(nil)

// NewLocal makes a Target of h. changing (may be nil) hears of each change before it is made, watch (may be nil) of
// every single changing call.
func NewLocal(drivers Drivers, h host.Host, lock func(context.Context) (func(), error),
	changing func(object.Object, plan.Delta), watch func(string)) *LocalTarget {
	if lock == nil {
		lock = func(context.Context) (func(), error) { return func() {}, nil }
	}
	return &LocalTarget{drivers: drivers, host: h, lock: lock, changing: changing, watch: watch}
}

// Host is the host below.
func (t *LocalTarget) Host() host.Host { return t.host }

// Observe implements Target.
func (t *LocalTarget) Observe(ctx context.Context, o object.Object) (provider.Observation, error) {
	d, err := t.drivers.Find(o)
	if err != nil {
		return provider.Observation{}, err
	}
	return d.Observe(ctx, t.host, o)
}

// Apply implements Target. It looks once without the lock, so that a true object costs nobody anything, and again under
// it.
func (t *LocalTarget) Apply(ctx context.Context, o object.Object, c Consent) (Outcome, error) {
	d, err := t.drivers.Find(o)
	if err != nil {
		return Outcome{}, err
	}
	obs, err := d.Observe(ctx, t.host, o)
	if err != nil || obs.Delta.Empty() {
		return Outcome{After: obs}, err
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { unlock() }()
	round := ctx // of first looks; it ends with the first change
	ctx = host.WithoutRound(ctx)
	if obs, err = d.Observe(ctx, t.host, o); err != nil || obs.Delta.Empty() {
		return Outcome{After: obs}, err
	}
	if ctx.Err() != nil {
		return Outcome{}, Ended(ctx)
	}
	held := &holding{target: t, stop: ctx, lasting: provider.WithStop(Lasting(ctx), ctx), unlock: unlock}
	unlock = held.end
	host.EndRound(round)
	return t.change(held.begin(o), d, o, obs, c)
}

func (t *LocalTarget) change(ctx context.Context, d provider.Erased, o object.Object, obs provider.Observation,
	c Consent) (Outcome, error) {
	out := Outcome{Delta: obs.Delta, After: obs}
	if (obs.Delta.Action == plan.Replace || obs.Delta.Action == plan.Delete) && !c.Destroy {
		return out, provider.PermanentHint(fmt.Errorf("would %s what is there: %s", obs.Delta.Action, obs.Delta.Reason),
			"run it again with --yes if that is what you want")
	}
	if obs.Delta.Interrupts && !c.Destroy {
		return out, provider.PermanentHint(fmt.Errorf("would stop and start what runs: %s", obs.Delta.Reason),
			"run it again with --yes, or: phoenix restart "+o.Address.Scope())
	}
	if t.changing != nil {
		t.changing(o, obs.Delta)
	}
	counted := host.NewCounted(t.host, t.watch)
	err := d.Apply(ctx, counted, o, obs.Delta)
	out.Mutations = counted.Mutations()
	if err != nil {
		return out, err
	}
	after, err := d.Observe(ctx, t.host, o)
	if err != nil {
		return out, err
	}
	if out.After = after; !out.After.Delta.Empty() {
		return out, fmt.Errorf("%s was changed and still differs: %s", o.Address, describe(out.After.Delta))
	}
	return out, nil
}

func describe(d plan.Delta) string {
	parts := make([]string, 0, len(d.Fields)+1)
	if d.Reason != "" {
		parts = append(parts, d.Reason)
	}
	for _, f := range d.Fields {
		parts = append(parts, fmt.Sprintf("%s is %q, want %q", f.Path, f.Have, f.Want))
	}
	return strings.Join(parts, "; ")
}
