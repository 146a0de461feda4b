package file

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Driver) Watch(want spec.File, _ *Status) provider.Watch {
	return provider.Watch{Paths: []string{want.Path}}
}
