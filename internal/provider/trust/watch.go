package trust

import (
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher.
func (Driver) Watch(want spec.Trust, _ *Status) provider.Watch {
	return provider.Watch{Paths: []string{localFile(want), bundle}}
}

// Watch implements provider.Watcher.
func (PinDriver) Watch(want spec.Pin, _ *PinStatus) provider.Watch {
	w := provider.Watch{Paths: []string{want.Path}}
	if want.Copy != "" { // other nodes write it, and without quorum nobody does
		w.Polls = []provider.Poll{{Path: want.Copy}, {Path: filepath.Join(want.Proxmox.Dir, "local")}}
	}
	return w
}
