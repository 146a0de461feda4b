package cli

import (
	"context"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/all"
)

type driversKey struct{}

// WithDrivers gives Main other drivers than those of package all: for tests that count, kill or fake.
func WithDrivers(ctx context.Context, d engine.Drivers) context.Context {
	return context.WithValue(ctx, driversKey{}, d)
}

type standInKey struct{}

// standIn takes the place of this machine, and of the insides of its containers: for tests that do what phoenix
// advises.
type standIn struct {
	host    host.Host
	connect func(ctx context.Context, id string) (engine.Target, error)
}

func withStandIn(ctx context.Context, m standIn) context.Context {
	return context.WithValue(ctx, standInKey{}, &m)
}

// standInOf is nil where it is this one.
func standInOf(ctx context.Context) *standIn {
	m, _ := ctx.Value(standInKey{}).(*standIn)
	return m
}

func driversOf(ctx context.Context) engine.Drivers {
	if d, ok := ctx.Value(driversKey{}).(engine.Drivers); ok {
		return d
	}
	return all.Drivers()
}
