package engine

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// walk goes once through the objects in the order of their dependencies.
type walk struct {
	engine  *Engine
	objects []object.Object
	index   map[object.Address]int
	users   [][]int // who depends on the object
	waiting []int   // how many dependencies are not done

	mu      sync.Mutex // guards what follows
	results []*done
	targets map[string]*entry
	places  map[string]chan struct{} // of those at work, by where they are
}

// entry is one container's connection; ready is closed when target and err are set.
type entry struct {
	ready  chan struct{}
	target Target
	err    error
}

func newWalk(e *Engine, ordered []object.Object) *walk {
	w := &walk{
		engine: e, objects: ordered,
		index:   make(map[object.Address]int, len(ordered)),
		users:   make([][]int, len(ordered)),
		waiting: make([]int, len(ordered)),
		results: make([]*done, len(ordered)),
		targets: map[string]*entry{}, places: map[string]chan struct{}{},
	}
	for i, o := range ordered {
		w.index[o.Address] = i
		for _, d := range o.Dependencies() {
			w.users[w.index[d]] = append(w.users[w.index[d]], i)
			w.waiting[i]++
		}
	}
	return w
}

// insideMost is how many objects of one container are done at once: one that does not answer keeps no others waiting.
const insideMost = 8

func (w *walk) run(ctx context.Context, one step) Result {
	finished := make(chan done, len(w.objects))
	var group sync.WaitGroup
	begin := func(i int) {
		place := w.place(w.objects[i].Host)
		group.Go(func() {
			place <- struct{}{}
			defer func() { <-place }()
			finished <- w.do(ctx, i, one)
		})
	}
	for i, n := range w.waiting {
		if n == 0 {
			begin(i)
		}
	}
	for range w.objects {
		d := <-finished
		for _, u := range w.users[d.index] {
			if w.waiting[u]--; w.waiting[u] == 0 {
				begin(u)
			}
		}
	}
	group.Wait()
	return w.result()
}

// place has room for those that are done at once on one host.
func (w *walk) place(host string) chan struct{} {
	if w.places[host] == nil {
		n := w.engine.Workers
		if n == 0 {
			n = 16
		}
		if host != "" {
			n = min(n, insideMost)
		}
		w.places[host] = make(chan struct{}, n)
	}
	return w.places[host]
}

// do is one object, unless something it depends on failed.
func (w *walk) do(ctx context.Context, i int, one step) done {
	o := w.objects[i]
	d, begun := done{}, time.Now()
	if blocked := w.blocked(o); blocked != nil {
		d.err = blocked
	} else if ctx.Err() != nil {
		d.err = &notBegunError{Ended(ctx)}
	} else {
		d = w.engine.waitFor(ctx, w, o, one)
	}
	d.index, d.begun, d.at = i, begun, time.Now()
	w.mu.Lock()
	w.results[i] = &d
	w.mu.Unlock()
	if d.err != nil {
		w.notify(Event{Stage: Failed, Object: o, Delta: d.delta, Err: d.err, Mutations: d.mutations})
	}
	return d
}

type blockedError struct {
	by    object.Address
	cause error
}

// Blocked tells whether an object failed only because something that it depends on did.
func Blocked(err error) bool {
	var blocked *blockedError
	return errors.As(err, &blocked)
}

// Error names the object and the first line of what is wrong with it.
func (e *blockedError) Error() string {
	cause, _, _ := strings.Cut(e.cause.Error(), "\n")
	return fmt.Sprintf("blocked by %s: %s", e.by, strings.TrimPrefix(cause, string(e.by)+": "))
}

// blocked names the failed object at the root of why o cannot be done; nil: it can be.
func (w *walk) blocked(o object.Object) error {
	for _, dep := range o.Dependencies() {
		err := w.done(dep).err
		if err == nil {
			continue
		}
		var root *blockedError
		if errors.As(err, &root) {
			return root
		}
		return &blockedError{by: dep, cause: err}
	}
	return nil
}

func (w *walk) done(a object.Address) *done {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.results[w.index[a]]
}

// fill copies what the object needs from the statuses of others; missing are the needs that no status answers yet.
func (w *walk) fill(o object.Object) (object.Object, []object.Need, error) {
	var missing []object.Need
	for _, n := range o.Needs {
		v, ok := w.done(n.From).value(n.Field)
		if !ok {
			missing = append(missing, n)
			continue
		}
		spec, err := object.Fill(o.Spec, n.Into, v)
		if err != nil {
			return o, nil, provider.Permanent(fmt.Errorf("%s: %w", o.Address, err))
		}
		o.Spec = spec
	}
	return o, missing, nil
}

// value is a field of the object's status: of one that is only planned, as it will be once it is applied, as far as its
// delta tells. Otherwise a plan would compare those that need it with what is about to change, and count too little.
func (d *done) value(field string) (any, bool) {
	for _, f := range d.delta.Fields {
		if d.pending && f.Path == field && f.Want != "" && f.Want != plan.AfterApply {
			return f.Want, true
		}
	}
	return d.obs.Field(field)
}

// unknown is the delta of an object that cannot be looked at before others are applied; nil where it can.
func (w *walk) unknown(o object.Object, missing []object.Need) *plan.Delta {
	if len(missing) > 0 {
		d := &plan.Delta{Action: plan.Create, Reason: "needs " + string(missing[0].From)}
		for _, n := range missing {
			d.Fields = append(d.Fields, plan.Field{Path: n.Into[1:], Want: plan.AfterApply})
		}
		return d
	}
	if o.Host == "" {
		return nil
	}
	for _, dep := range o.Dependencies() {
		r, at := w.done(dep), w.objects[w.index[dep]].Host
		switch {
		case at == o.Host && r.unseen: // the same inside that could not be entered
			return &plan.Delta{Action: plan.Create, Reason: r.delta.Reason}
		case at == "" && r.pending && (len(r.obs.Status) == 0 || r.delta.Action == plan.Create):
			return &plan.Delta{Action: plan.Create, Reason: plan.AfterApply + " of " + string(dep)}
		}
	}
	return nil
}

// target connects to a container once; those who come while it is under way wait for it.
func (w *walk) target(ctx context.Context, host string) (Target, error) {
	if host == "" {
		return w.engine.Local, nil
	}
	w.mu.Lock()
	e, known := w.targets[host]
	if !known {
		e = &entry{ready: make(chan struct{})}
		w.targets[host] = e
	}
	w.mu.Unlock()
	if !known {
		e.target, e.err = w.engine.Connect(ctx, host)
		if e.err != nil {
			w.drop(host, e)
		}
		close(e.ready)
	}
	select {
	case <-e.ready:
		return e.target, e.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// forget makes the next target call connect anew, if t is still the one in use.
func (w *walk) forget(host string, t Target) {
	w.mu.Lock()
	e := w.targets[host]
	w.mu.Unlock()
	if e != nil && e.target == t {
		w.drop(host, e)
	}
}

func (w *walk) drop(host string, e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.targets[host] == e {
		delete(w.targets, host)
	}
}

func (w *walk) notify(ev Event) {
	if w.engine.Notify == nil {
		return
	}
	w.engine.telling.Lock()
	defer w.engine.telling.Unlock()
	w.engine.Notify(ev)
}

func (w *walk) result() Result {
	r := Result{Statuses: make(map[object.Address]provider.Observation, len(w.objects))}
	var changes []plan.Change
	for i, d := range w.results {
		o := w.objects[i]
		r.Statuses[o.Address] = d.obs
		r.Mutations += d.mutations
		if !d.delta.Empty() {
			changes = append(changes, plan.Change{Address: o.Address, Delta: d.delta})
		}
		if d.err != nil {
			f := failure(o, d.err)
			f.begun, f.at = d.begun, d.at
			r.Failures = append(r.Failures, f)
		}
	}
	r.Plan = plan.New(changes)
	sort.SliceStable(r.Failures, func(i, j int) bool { return r.Failures[i].BlockedBy < r.Failures[j].BlockedBy })
	return r
}

func failure(o object.Object, err error) Failure {
	f := Failure{Address: o.Address, Source: o.Source, Err: err, Message: err.Error()}
	var b *blockedError
	if errors.As(err, &b) {
		f.BlockedBy = b.by
		return f
	}
	f.Hint = Advice(err)
	return f
}
