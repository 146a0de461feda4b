package provider

import "context"

type aloneKey struct{}

// WithAlone is a context under which Alone releases what others wait for, and takes the lock of its key instead.
func WithAlone(ctx context.Context,
	alone func(key string, do func(context.Context) error) error) context.Context {
	return context.WithValue(ctx, aloneKey{}, alone)
}

// Alone is for a part of Apply that runs a program which may take long, such as a script, an installation or the start
// of a unit. Meanwhile others may change this host, but none is in an Alone with the same key: neither another
// goroutine nor another process. Whoever had the key before may have done the work: do looks first. Unlike in Wait the
// program is not cut off when somebody asks for the end of the work; an error of a wait for the key is one before do.
func Alone(ctx context.Context, key string, do func(context.Context) error) error {
	if alone, ok := ctx.Value(aloneKey{}).(func(string, func(context.Context) error) error); ok {
		return alone(key, do)
	}
	return do(ctx)
}

type waitingKey struct{}

// Waiting is a context under which Wait lets go of what others wait for.
func Waiting(ctx context.Context, wait func(do func(context.Context) error) error) context.Context {
	return context.WithValue(ctx, waitingKey{}, wait)
}

// Wait is for a part of Apply that waits for somebody elsewhere, such as a CA, and changes nothing that others look at:
// meanwhile others may change this host. Its context ends when somebody asks for the end of the work, though a change
// is otherwise brought to its end.
func Wait(ctx context.Context, do func(context.Context) error) error {
	if wait, ok := ctx.Value(waitingKey{}).(func(func(context.Context) error) error); ok {
		return wait(do)
	}
	return do(ctx)
}

type stopKey struct{}

// Stopped is why somebody asked for the end of the work; nil: nobody did. A part of Apply that goes on with something
// new after a wait asks first.
func Stopped(ctx context.Context) error {
	if stop, ok := ctx.Value(stopKey{}).(context.Context); ok && stop.Err() != nil {
		return context.Cause(stop)
	}
	return nil
}

// WithStop is a context whose Stoppable ends with stop.
func WithStop(ctx, stop context.Context) context.Context {
	return context.WithValue(ctx, stopKey{}, stop)
}

// Stoppable is for a part of Apply that only waits, with nothing half done: its context ends when somebody asks for the
// end of the work, though a change is otherwise brought to its end. Others do not change this host meanwhile.
func Stoppable(ctx context.Context) (context.Context, context.CancelFunc) {
	stop, ok := ctx.Value(stopKey{}).(context.Context)
	inner, cancel := context.WithCancelCause(ctx)
	if !ok {
		return inner, func() { cancel(nil) }
	}
	unhook := context.AfterFunc(stop, func() { cancel(context.Cause(stop)) })
	return inner, func() { unhook(); cancel(nil) }
}
