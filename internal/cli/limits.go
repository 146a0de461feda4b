package cli

import (
	"cmp"
	"context"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
)

// Limits are how long phoenix bears with what fails or says nothing.
type Limits struct {
	Patience time.Duration // passing failures of one object are tried again so long; 0: the engine's own
	Agent    agent.Limits  // what a container's agent has; zero values: its own
	Settle   time.Duration // daemons have so long to settle after a migration; 0: 30 s
	Silence  time.Duration // another's lock is waited for so long before a word is said; 0: 1 s
}

const (
	silenceLimit = time.Second
	settleLimit  = 30 * time.Second
)

func (l Limits) settle() time.Duration  { return cmp.Or(l.Settle, settleLimit) }
func (l Limits) silence() time.Duration { return cmp.Or(l.Silence, silenceLimit) }

type limitsKey struct{}

// WithLimits gives Main other limits than its own: for tests of what hangs.
func WithLimits(ctx context.Context, l Limits) context.Context {
	return context.WithValue(ctx, limitsKey{}, l)
}

func limitsOf(ctx context.Context) Limits {
	l, _ := ctx.Value(limitsKey{}).(Limits)
	return l
}
