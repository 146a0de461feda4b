package host

import (
	"context"
	"strings"
	"sync"
	"time"
)

// gather is how long the first that asks for a shared command waits for others that want the same.
const gather = 3 * time.Millisecond

// shares are the shared commands that run and, of each, the next run that is being waited for. One that has begun is
// not joined: it may not see what whoever comes later has just changed. They gather for the next one, which waits for
// its end.
type shares struct {
	mu             sync.Mutex
	running, ahead map[string]*share
}

// share is one run for all that asked before it began.
type share struct {
	done    chan struct{}
	res     Result
	err     error
	stopped bool // for reasons of the first's own
}

type runner func(context.Context, Command) (Result, error)

func (s *shares) run(ctx context.Context, c Command, run runner) (Result, error) {
	key := strings.Join(c.Argv, "\x00")
	own, first, before := s.join(key)
	if !first {
		select {
		case <-own.done:
			if !own.stopped {
				return own.res, own.err
			}
		case <-ctx.Done():
		}
		return run(ctx, c)
	}
	defer s.end(key, own)
	wait(ctx, before)
	s.begin(key, own)
	own.res, own.err = run(ctx, c)
	own.stopped = ctx.Err() != nil
	return own.res, own.err
}

// wait waits for the run before or, where there is none, for others to come.
func wait(ctx context.Context, before *share) {
	if before == nil {
		select {
		case <-time.After(gather):
		case <-ctx.Done():
		}
		return
	}
	select {
	case <-before.done:
	case <-ctx.Done():
	}
}

// join gives the next run, whether the caller is the first that asks for it, and the one that is under way.
func (s *shares) join(key string) (own *share, first bool, before *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead == nil {
		s.ahead, s.running = map[string]*share{}, map[string]*share{}
	}
	own = s.ahead[key]
	if own == nil {
		own, first = &share{done: make(chan struct{})}, true
		s.ahead[key] = own
	}
	return own, first, s.running[key]
}

func (s *shares) begin(key string, own *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ahead, key)
	s.running[key] = own
}

func (s *shares) end(key string, own *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(own.done)
	if s.running[key] == own {
		delete(s.running, key)
	}
}
