package pkg

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Driver) Watch(spec.Package, *Status) provider.Watch {
	return provider.Watch{Paths: []string{database}}
}
