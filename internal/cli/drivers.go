package cli

import (
	"context"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/all"
)

type driversKey struct{}

// WithDrivers gives Main other drivers than those of package all: for tests that count, kill or fake.
func WithDrivers(ctx context.Context, d engine.Drivers) context.Context {
	return context.WithValue(ctx, driversKey{}, d)
}

func driversOf(ctx context.Context) engine.Drivers {
	if d, ok := ctx.Value(driversKey{}).(engine.Drivers); ok {
		return d
	}
	return all.Drivers()
}
