package network

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Driver) Watch(spec.Network, *Status) provider.Watch { return provider.Watch{Links: true} }
