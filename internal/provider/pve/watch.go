package pve

import (
	"os"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// cluster is what a guest rests on that other nodes change, and of which inotify reports nothing: whether the
// cluster can be changed and its file system is there, which node a guest is on, and whether the id is a container's.
// Without an id it is the former alone.
func cluster(p spec.Proxmox, id string) []provider.Poll {
	polls := []provider.Poll{{Path: filepath.Join(p.Dir, "local")}}
	if id != "" {
		list, guest := filepath.Join(p.Dir, ".vmlist"), "ids/"+id
		polls = append(polls, provider.Poll{Path: list, Part: guest + "/node"},
			provider.Poll{Path: list, Part: guest + "/type"})
	}
	return polls
}

// guest is what every driver rests on that reads a container's file: the file, and where in the cluster it is. What
// failed because of either is tried again when it changes, and left alone until then.
func guest(p spec.Proxmox, id string) provider.Watch {
	return provider.Watch{Paths: []string{confPath(p, id)}, Polls: cluster(p, id)}
}

// Watch implements provider.Watcher.
func (Container) Watch(want spec.Container, _ *ContainerStatus) provider.Watch {
	return guest(want.Guest.Proxmox, want.ID)
}

// Watch implements provider.Watcher. A storage that comes back is a mount of the hypervisor.
func (Volume) Watch(want spec.Volume, have *VolumeStatus) provider.Watch {
	w := guest(*want.Proxmox, want.Container)
	w.Mounts = []int{os.Getpid()}
	if have != nil && have.Path != "" {
		w.Paths = append(w.Paths, have.Path)
	}
	return w
}

// Watch implements provider.Watcher. What it waits for to start may be a directory that somebody makes, or mounts.
func (Running) Watch(want spec.Running, have *RunningStatus) provider.Watch {
	w := guest(*want.Proxmox, want.ID)
	switch {
	case have == nil:
	case have.PID != 0:
		w.Processes, w.Mounts = []int{have.PID}, []int{have.PID}
	default:
		w.Mounts, w.Paths = []int{os.Getpid()}, append(w.Paths, have.Missing...)
	}
	return w
}

// Watch implements provider.Watcher.
func (Template) Watch(want spec.Template, _ *TemplateStatus) provider.Watch {
	return guest(want.Definition.Guest.Proxmox, want.ID)
}

// Watch implements provider.Watcher.
func (Snapshot) Watch(want spec.Snapshot, _ *SnapshotStatus) provider.Watch {
	return guest(want.Proxmox, want.ID)
}

// Watch implements provider.Watcher. The file belongs to the cluster: the web interface of any node writes it.
func (Firewall) Watch(want spec.Firewall, _ *FirewallStatus) provider.Watch {
	path := filterPath(*want.Proxmox, want.ID)
	return provider.Watch{Paths: []string{path}, Polls: append(cluster(*want.Proxmox, ""), provider.Poll{Path: path})}
}

// Watch implements provider.Watcher.
func (Node) Watch(want spec.NodeFirewall, _ *NodeStatus) provider.Watch {
	own, all := nodePath(want.Proxmox), filterPath(want.Proxmox, "cluster")
	return provider.Watch{Paths: []string{own, all}, Polls: append(cluster(want.Proxmox, ""), provider.Poll{Path: all})}
}
