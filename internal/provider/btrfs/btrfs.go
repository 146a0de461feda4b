// Package btrfs keeps volumes that are Btrfs subvolumes on the hypervisor. Quotas are left to the administrator: switching
// them on slows the whole file system down, so size_bytes is not kept by this backend.
package btrfs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps subvolumes. It implements provider.Driver and provider.Deleter.
type Driver struct{}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Volume, diag.List) { return provider.DecodeFolder(raw) }

// Observe implements provider.Driver. A plain directory in the subvolume's place is a permanent error.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) (*provider.Folder, error) {
	f, err := provider.ObserveFolder(ctx, h, v)
	if err == nil && f != nil && !f.Subvolume {
		return nil, provider.PermanentHint(fmt.Errorf("%s is a plain directory, not a subvolume", v.Path),
			"move it away, apply, and copy its content back")
	}
	return f, err
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Volume, have *provider.Folder) plan.Delta {
	return provider.DiffFolder(want, have)
}

// Apply implements provider.Driver.
func (Driver) Apply(ctx context.Context, h host.Host, _ object.Address, v spec.Volume, d plan.Delta) error {
	return provider.ApplyFolder(ctx, h, v, d, func() error {
		if _, err := h.Lstat(v.Path); err == nil {
			return nil // made by an apply that was killed
		}
		return run(ctx, h, "create", v.Path)
	})
}

// Delete implements provider.Deleter.
func (Driver) Delete(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) error {
	return provider.DeleteFolder(ctx, h, v, func() error {
		if _, err := h.Lstat(v.Path); err != nil {
			return nil
		}
		return run(ctx, h, "delete", v.Path)
	})
}

func run(ctx context.Context, h host.Host, verb, path string) error {
	_, err := h.Run(ctx, host.Command{Argv: []string{"btrfs", "--quiet", "subvolume", verb, path}, Mutates: true})
	return err
}
