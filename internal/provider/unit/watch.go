package unit

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher: the process, the unit's files, and the links that enable or mask it.
func (Driver) Watch(want spec.Unit, have *Status) provider.Watch {
	w := provider.Watch{Paths: []string{
		"/etc/systemd/system/" + want.Name, "/run/systemd/system/" + want.Name,
		"/etc/systemd/system/" + want.Name + ".d/50-phoenix.conf",
		"/etc/systemd/system/multi-user.target.wants/" + want.Name,
	}}
	if have != nil && have.PID != 0 {
		w.Processes = []int{have.PID}
	}
	return w
}
