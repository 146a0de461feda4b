package pve

import (
	"os"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// cluster is what a guest rests on that other nodes change, and of which inotify reports nothing: whether the
// cluster can be changed and its file system is there, and which node a guest is on. Without an id it is the former
// alone.
func cluster(p spec.Proxmox, id string) []provider.Poll {
	polls := []provider.Poll{{Path: filepath.Join(p.Dir, "local")}}
	if id != "" {
		polls = append(polls, provider.Poll{Path: filepath.Join(p.Dir, ".vmlist"), Part: "ids/" + id + "/node"})
	}
	return polls
}

// Watch implements provider.Watcher.
func (Container) Watch(want spec.Container, _ *ContainerStatus) provider.Watch {
	p := want.Guest.Proxmox
	return provider.Watch{Paths: []string{confPath(p, want.ID)}, Polls: cluster(p, want.ID)}
}

// Watch implements provider.Watcher. A storage that comes back is a mount of the hypervisor.
func (Volume) Watch(want spec.Volume, have *VolumeStatus) provider.Watch {
	w := provider.Watch{Mounts: []int{os.Getpid()}, Polls: cluster(*want.Proxmox, "")}
	if have != nil && have.Path != "" {
		w.Paths = []string{have.Path}
	}
	return w
}

// Watch implements provider.Watcher.
func (Running) Watch(want spec.Running, have *RunningStatus) provider.Watch {
	w := provider.Watch{Polls: cluster(*want.Proxmox, want.ID)}
	if have != nil && have.PID != 0 {
		w.Processes, w.Mounts = []int{have.PID}, []int{have.PID}
	}
	return w
}

// Watch implements provider.Watcher.
func (Template) Watch(want spec.Template, _ *TemplateStatus) provider.Watch {
	p := want.Definition.Guest.Proxmox
	return provider.Watch{Paths: []string{confPath(p, want.ID)}, Polls: cluster(p, want.ID)}
}

// Watch implements provider.Watcher.
func (Snapshot) Watch(want spec.Snapshot, _ *SnapshotStatus) provider.Watch {
	return provider.Watch{Paths: []string{confPath(want.Proxmox, want.ID)}, Polls: cluster(want.Proxmox, want.ID)}
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
