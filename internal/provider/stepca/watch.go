package stepca

import (
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher. The database is the process's own and changes all the time; only its directory is
// looked at.
func (Driver) Watch(want spec.StepCA, _ *Status) provider.Watch {
	var w provider.Watch
	for _, e := range wanted(layout(want.Dir), host.Root) {
		w.Paths = append(w.Paths, e.path)
	}
	return w
}
