package dns

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Driver) Watch(_ spec.DNS, have *Status) provider.Watch {
	if have == nil || have.PID == 0 {
		return provider.Watch{}
	}
	return provider.Watch{Paths: []string{have.Running}, Processes: []int{have.PID}}
}
