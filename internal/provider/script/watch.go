package script

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (dr Driver) Watch(want spec.Script, _ *Status) provider.Watch {
	return provider.Watch{Paths: []string{dr.path(want) + markSuffix}}
}
