package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

type lastingKey struct{}

// Interruptible gives a context that ends when ctx does or stop does. A change that was begun before stop ended comes
// to its end, as long as ctx lasts.
func Interruptible(ctx, stop context.Context) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithCancelCause(context.WithValue(ctx, lastingKey{}, ctx))
	unhook := context.AfterFunc(stop, func() { cancel(context.Cause(stop)) })
	return inner, func() { unhook(); cancel(nil) }
}

// Lasting is the context of a change that was begun under ctx.
func Lasting(ctx context.Context) context.Context {
	if lasting, ok := ctx.Value(lastingKey{}).(context.Context); ok {
		return lasting
	}
	return ctx
}

// Prompt gives a context under which a change that was begun ends with ctx. It is for a process that is told to stop as
// its system goes down: a change that asks systemd for something would wait for what systemd does after the process has
// ended.
func Prompt(ctx context.Context) context.Context {
	return context.WithValue(ctx, lastingKey{}, ctx)
}

// Ended is why ctx ended: its Err, in the words of its cause.
func Ended(ctx context.Context) error { return &endedError{cause: context.Cause(ctx), err: ctx.Err()} }

type endedError struct{ cause, err error }

func (e *endedError) Error() string   { return e.cause.Error() }
func (e *endedError) Unwrap() []error { return []error{e.cause, e.err} }

// notBegunError is an object that was not changed as the work was stopped.
type notBegunError struct{ why error }

func (e *notBegunError) Error() string { return "not begun: " + e.why.Error() }
func (e *notBegunError) Unwrap() error { return e.why }

// Left are the objects that were not begun when the work was stopped, and those that are blocked.
func (r Result) Left() (left []object.Address) {
	for _, f := range r.Failures {
		var not *notBegunError
		if f.BlockedBy != "" || errors.As(f.Err, &not) || f.Err == context.Canceled ||
			f.Err == context.DeadlineExceeded {
			left = append(left, f.Address)
		}
	}
	return left
}

// StoppedError is a Remove that was stopped before all was done.
type StoppedError struct {
	Err  error
	Left []object.Address
}

// Error names what is left.
func (e *StoppedError) Error() string {
	names := make([]string, len(e.Left))
	for i, a := range e.Left {
		names[i] = string(a)
	}
	return e.Err.Error() + "; not done: " + strings.Join(names, ", ")
}

// Unwrap gives why it was stopped.
func (e *StoppedError) Unwrap() error { return e.Err }
