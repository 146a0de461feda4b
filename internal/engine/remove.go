package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Power is what Remove does to an object.
type Power func(ctx context.Context, d provider.Erased, h host.Host, o object.Object) error

// Delete removes objects.
func Delete(ctx context.Context, d provider.Erased, h host.Host, o object.Object) error {
	return d.Delete(ctx, h, o)
}

// Stop stops objects.
func Stop(ctx context.Context, d provider.Erased, h host.Host, o object.Object) error {
	return d.Stop(ctx, h, o)
}

// Remove uses a power on objects of this host, dependents before what they depend on. Objects that lack it are passed
// over. It goes on after a failure and returns all of them; a stop lets the one under way come to its end. mutations
// counts the changing calls.
func (t *LocalTarget) Remove(ctx context.Context, objects []object.Object, power Power) (mutations int, err error) {
	ordered, diags := plan.Order(Among(objects))
	if err := diags.Err(); err != nil {
		return 0, err
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	counted := host.NewCounted(t.host, t.watch)
	var errs []error
	for i := len(ordered) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			errs = append(errs, &StoppedError{Err: Ended(ctx), Left: backwards(ordered[:i+1])})
			break
		}
		d, err := t.drivers.Find(ordered[i])
		if err == nil {
			err = t.once(ctx, power, d, counted, ordered[i])
		}
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			errs = append(errs, err)
		}
	}
	return counted.Mutations(), errors.Join(errs...)
}

const busyPoll = time.Second

// once uses a power on one object. While somebody else is at work on it, it is waited for as long as Apply would.
func (t *LocalTarget) once(ctx context.Context, power Power, d provider.Erased, h host.Host, o object.Object) error {
	told := t.Busy == nil
	for limit := time.Now().Add(cmp.Or(t.Patience, time.Minute)); ; {
		err := power(provider.WithStop(Lasting(ctx), ctx), d, h, o)
		if !provider.IsBusy(err) || time.Now().After(limit) {
			return err
		}
		if !told {
			told = true
			t.Busy(err)
		}
		if sleep(ctx, busyPoll) != nil {
			return err
		}
	}
}

func backwards(objects []object.Object) (out []object.Address) {
	for _, o := range slices.Backward(objects) {
		out = append(out, o.Address)
	}
	return out
}

// Among drops the dependencies that lead out of the list, for work on a part of the objects.
func Among(objects []object.Object) []object.Object {
	in := make(map[object.Address]bool, len(objects))
	for _, o := range objects {
		in[o.Address] = true
	}
	out := make([]object.Object, len(objects))
	for i, o := range objects {
		o.After = slices.DeleteFunc(slices.Clone(o.After), func(a object.Address) bool { return !in[a] })
		o.Needs = slices.DeleteFunc(slices.Clone(o.Needs), func(n object.Need) bool { return !in[n.From] })
		out[i] = o
	}
	return out
}

// Each calls do for 0 to n-1, at most limit at once, and returns when all are done.
func Each(n, limit int, do func(i int)) {
	var group sync.WaitGroup
	places := make(chan struct{}, max(1, limit))
	for i := range n {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			do(i)
		})
	}
	group.Wait()
}
