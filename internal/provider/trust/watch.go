package trust

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Driver) Watch(want spec.Trust, _ *Status) provider.Watch {
	return provider.Watch{Paths: []string{localFile(want), bundle}}
}

// Watch implements provider.Watcher.
func (PinDriver) Watch(want spec.Pin, _ *PinStatus) provider.Watch {
	return provider.Watch{Paths: []string{want.Path}}
}
