package pve

import (
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Container) Watch(want spec.Container, _ *ContainerStatus) provider.Watch {
	return provider.Watch{Paths: []string{confPath(want.Guest.Proxmox, want.ID)}}
}

// Watch implements provider.Watcher.
func (Volume) Watch(_ spec.Volume, have *VolumeStatus) provider.Watch {
	if have == nil || have.Path == "" {
		return provider.Watch{}
	}
	return provider.Watch{Paths: []string{have.Path}}
}

// Watch implements provider.Watcher.
func (Running) Watch(_ spec.Running, have *RunningStatus) provider.Watch {
	if have == nil || have.PID == 0 {
		return provider.Watch{}
	}
	return provider.Watch{Processes: []int{have.PID}, Mounts: []int{have.PID}}
}
