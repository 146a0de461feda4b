// Package provider is the contract between the engine and the code for one kind of object.
package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Driver keeps one kind of object true. It holds no state of its own: one Driver serves many objects at once. The
// engine retries, with backoff, what fails without being Permanent; a Driver itself waits only for what its own change
// brings about.
type Driver[Spec, Status any] interface {
	// Decode reads and checks a spec. It is pure.
	Decode(raw json.RawMessage) (Spec, diag.List)
	// Observe changes nothing. A nil status: the object is absent.
	Observe(ctx context.Context, h host.Host, a object.Address, s Spec) (*Status, error)
	// Diff is pure. An empty delta: the object is true.
	Diff(want Spec, have *Status) plan.Delta
	// Apply makes the delta go away. It may be killed anywhere and called again.
	Apply(ctx context.Context, h host.Host, a object.Address, want Spec, d plan.Delta) error
}

// Deleter is a Driver whose objects can be removed. Deleting what is absent is no error.
type Deleter[Spec any] interface {
	Delete(ctx context.Context, h host.Host, a object.Address, s Spec) error
}

// Stopper is a Driver whose objects can be stopped without being removed. Stopping what is stopped is no error.
type Stopper[Spec any] interface {
	Stop(ctx context.Context, h host.Host, a object.Address, s Spec) error
}

// Scheduler is a Driver that wants its object looked at again at a certain time, a certificate's renewal for example.
// The zero time: no wish. It is pure.
type Scheduler[Spec, Status any] interface {
	Next(want Spec, have *Status) time.Time
}

// Watch is what an object rests on, so that a change of it is noticed when it happens. Paths may be missing; what is in
// a directory is not watched with it.
type Watch struct {
	Paths     []string `json:"paths,omitempty"`
	Processes []int    `json:"processes,omitempty"` // whose end is a change
	Mounts    []int    `json:"mounts,omitempty"`    // processes, a change of whose mounts is one
	Links     bool     `json:"links,omitempty"`     // network interfaces and their addresses
	Filters   bool     `json:"filters,omitempty"`   // the rules of nftables
	Polls     []Poll   `json:"polls,omitempty"`     // whose changes the kernel does not always report
}

// Poll is a file that other machines change too, so that it is compared several times a second: by what it holds where
// it is a file, by its mode where it is something else.
type Poll struct {
	Path string `json:"path"`
	Part string `json:"part,omitempty"` // of a JSON document: the names that lead to what counts, such as ids/103/node
}

// Empty reports whether it rests on nothing.
func (w Watch) Empty() bool {
	return len(w.Paths)+len(w.Processes)+len(w.Mounts)+len(w.Polls) == 0 && !w.Links && !w.Filters
}

// Watcher is a Driver that knows what its objects rest on. It is pure; have is nil where the object is absent.
type Watcher[Spec, Status any] interface {
	Watch(want Spec, have *Status) Watch
}

// Erased is a Driver without its types. New makes it.
type Erased interface {
	// Decode checks a spec.
	Decode(raw json.RawMessage) diag.List
	// Observe gives the status as JSON (nil: absent), the delta to the spec, and when to look again (zero: no wish).
	Observe(ctx context.Context, h host.Host, o object.Object) (Observation, error)
	Apply(ctx context.Context, h host.Host, o object.Object, d plan.Delta) error
	// Delete and Stop fail with errors.ErrUnsupported where the driver has no such power.
	Delete(ctx context.Context, h host.Host, o object.Object) error
	Stop(ctx context.Context, h host.Host, o object.Object) error
}

// Observation is what was seen of one object.
type Observation struct {
	Status json.RawMessage `json:"status,omitempty"` // null: absent
	Delta  plan.Delta      `json:"delta"`
	Next   time.Time       `json:"next,omitzero"`
	Watch  Watch           `json:"watch,omitzero"`
}

// Field reads one top-level field of the status; false where it is absent, null or empty.
func (o Observation) Field(name string) (any, bool) {
	var fields map[string]any
	if err := json.Unmarshal(o.Status, &fields); err != nil {
		return nil, false
	}
	v := fields[name]
	return v, v != nil && v != ""
}

// New erases a driver's types.
func New[Spec, Status any](d Driver[Spec, Status]) Erased { return erased[Spec, Status]{d} }

type erased[Spec, Status any] struct{ d Driver[Spec, Status] }

func (e erased[Spec, Status]) Decode(raw json.RawMessage) diag.List {
	_, diags := e.d.Decode(raw)
	return diags
}

func (e erased[Spec, Status]) decode(o object.Object) (Spec, error) {
	s, diags := e.d.Decode(o.Spec)
	if err := diags.Err(); err != nil {
		return s, Permanent(fmt.Errorf("%s: %w", o.Address, err))
	}
	return s, nil
}

func (e erased[Spec, Status]) Observe(ctx context.Context, h host.Host, o object.Object) (Observation, error) {
	s, err := e.decode(o)
	if err != nil {
		return Observation{}, err
	}
	have, err := e.d.Observe(ctx, h, o.Address, s)
	w, watches := e.d.(Watcher[Spec, Status])
	if err != nil {
		var obs Observation
		if watches { // what it rests on may be why it cannot be looked at
			obs.Watch = w.Watch(s, nil)
		}
		return obs, err
	}
	obs := Observation{Delta: e.d.Diff(s, have)}
	if have != nil {
		if obs.Status, err = json.Marshal(have); err != nil {
			return Observation{}, err
		}
	}
	if sch, ok := e.d.(Scheduler[Spec, Status]); ok {
		obs.Next = sch.Next(s, have)
	}
	if watches {
		obs.Watch = w.Watch(s, have)
	}
	return obs, nil
}

func (e erased[Spec, Status]) Apply(ctx context.Context, h host.Host, o object.Object, d plan.Delta) error {
	s, err := e.decode(o)
	if err != nil {
		return err
	}
	return e.d.Apply(ctx, h, o.Address, s, d)
}

func (e erased[Spec, Status]) Delete(ctx context.Context, h host.Host, o object.Object) error {
	del, ok := e.d.(Deleter[Spec])
	if !ok {
		return fmt.Errorf("delete %s: %w", o.Address, errors.ErrUnsupported)
	}
	s, err := e.decode(o)
	if err != nil {
		return err
	}
	return del.Delete(ctx, h, o.Address, s)
}

func (e erased[Spec, Status]) Stop(ctx context.Context, h host.Host, o object.Object) error {
	st, ok := e.d.(Stopper[Spec])
	if !ok {
		return fmt.Errorf("stop %s: %w", o.Address, errors.ErrUnsupported)
	}
	s, err := e.decode(o)
	if err != nil {
		return err
	}
	return st.Stop(ctx, h, o.Address, s)
}

// Decode reads a spec strictly: an unknown field is an error. Drivers call it from their own Decode.
func Decode[Spec any](raw json.RawMessage) (Spec, diag.List) {
	var s Spec
	var diags diag.List
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		diags.Errorf("spec cannot be read: %v", err)
	}
	return s, diags
}

// PermanentError is a failure that trying again cannot mend.
type PermanentError struct {
	Err  error
	Hint string // what a person should do
}

// Error implements error.
func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *PermanentError) Unwrap() error { return e.Err }

// Permanent marks an error that trying again cannot mend.
func Permanent(err error) error { return &PermanentError{Err: err} }

// PermanentHint is Permanent with what a person should do.
func PermanentHint(err error, hint string) error { return &PermanentError{Err: err, Hint: hint} }

// WithHint keeps what a person should do with an error that trying again may mend.
func WithHint(err error, hint string) error { return &hintedError{error: err, hint: hint} }

type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// Hint is what a person should do; empty: the error does not say.
func Hint(err error) string {
	var p *PermanentError
	var h *hintedError
	switch {
	case errors.As(err, &p) && p.Hint != "":
		return p.Hint
	case errors.As(err, &h):
		return h.hint
	}
	return ""
}

// IsPermanent reports whether trying again is of no use.
func IsPermanent(err error) bool {
	var p *PermanentError
	return errors.As(err, &p)
}

// Busy marks a failure that ends when somebody else's work on the object does, such as a backup.
func Busy(err error) error { return &busyError{err} }

type busyError struct{ error }

func (e *busyError) Unwrap() error { return e.error }

// IsBusy reports whether to wait is all there is to do.
func IsBusy(err error) bool {
	var b *busyError
	return errors.As(err, &b)
}
