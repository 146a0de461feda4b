package host

import (
	"context"
	"sync"
)

// Round is one look at many objects of one host: a listing that answers for all of them is run once in it. What it
// answered holds until End, as nothing is changed before.
type Round struct {
	mu    sync.Mutex // guards what follows
	ended bool
	lists map[*Listing]*listed
}

// Listing is one command that answers for every object of a kind.
type Listing struct {
	Command Command
	// Split gives what the output says of each object, by its name.
	Split func(stdout []byte) (map[string][]byte, error)
}

type listed struct {
	once  sync.Once
	parts map[string][]byte
	err   error
}

type roundKey struct{}

// WithRound begins a Round for all that is asked with the context it returns.
func WithRound(ctx context.Context) context.Context {
	return context.WithValue(ctx, roundKey{}, &Round{lists: map[*Listing]*listed{}})
}

// WithoutRound gives a context with which each object is asked for by itself: for those who change things.
func WithoutRound(ctx context.Context) context.Context {
	return context.WithValue(ctx, roundKey{}, (*Round)(nil))
}

// EndRound makes the context's Round answer nothing any more: something is about to change.
func EndRound(ctx context.Context) {
	if r, _ := ctx.Value(roundKey{}).(*Round); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended, r.lists = true, nil
	}
}

// Parts is what a listing says, by name; false where the object has to be asked for by itself: outside of a Round, or
// where the listing failed, which is for the single command to explain.
func (l *Listing) Parts(ctx context.Context, h Host) (map[string][]byte, bool) {
	r, _ := ctx.Value(roundKey{}).(*Round)
	if r == nil {
		return nil, false
	}
	r.mu.Lock()
	one := r.lists[l]
	if one == nil && !r.ended {
		one = &listed{}
		r.lists[l] = one
	}
	r.mu.Unlock()
	if one == nil {
		return nil, false
	}
	one.once.Do(func() { one.parts, one.err = l.run(ctx, h) })
	return one.parts, one.err == nil
}

func (l *Listing) run(ctx context.Context, h Host) (map[string][]byte, error) {
	res, err := h.Run(ctx, l.Command)
	if err != nil {
		return nil, err
	}
	if l.Command.Output > 0 && len(res.Stdout) >= l.Command.Output {
		return nil, errCut
	}
	return l.Split(res.Stdout)
}
