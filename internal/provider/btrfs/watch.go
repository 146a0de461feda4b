package btrfs

import (
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Watch implements provider.Watcher: the volume's own mode and owner, and those of the directory that closes it.
func (Driver) Watch(want spec.Volume, _ *Status) provider.Watch {
	return provider.Watch{Paths: []string{want.Path, filepath.Dir(want.Path)}}
}
