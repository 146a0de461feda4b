package lxc

import (
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Container) Watch(want spec.Container, _ *ContainerStatus) provider.Watch {
	home := filepath.Join(want.Path, want.ID)
	return provider.Watch{Paths: []string{home, filepath.Join(home, "config"), filepath.Join(home, "rootfs")}}
}

// Watch implements provider.Watcher.
func (Running) Watch(_ spec.Running, have *RunningStatus) provider.Watch {
	if have == nil || have.PID == 0 {
		return provider.Watch{}
	}
	return provider.Watch{Processes: []int{have.PID}, Mounts: []int{have.PID}}
}

// Watch implements provider.Watcher: the file, and the daemon that runs from it.
func (Binary) Watch(want spec.Binary, have *BinaryStatus) provider.Watch {
	var w provider.Watch
	if want.Path != "" {
		w.Paths = []string{filepath.Join(home(want.Path, want.ID), "rootfs", want.Target)}
	}
	if have != nil && have.Daemon != 0 {
		w.Processes = []int{have.Daemon}
	}
	return w
}
