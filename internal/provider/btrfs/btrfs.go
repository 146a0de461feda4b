// Package btrfs keeps volumes that are Btrfs subvolumes on the hypervisor, with the volume's size as the limit of its
// quota group. Quotas are switched on for the file system when the first volume with a size asks for it: simple ones
// where the kernel and the tools have them, which cost next to nothing, else full ones.
package btrfs

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps subvolumes. It implements provider.Driver, provider.Deleter, provider.Keeper and provider.Watcher.
type Driver struct{}

// Status is what was seen of a subvolume.
type Status struct {
	provider.Directory
	Limit int64 `json:"limit"` // bytes; 0: none
	Used  int64 `json:"used"`  // bytes that it refers to, as of the last commit
}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Volume, diag.List) {
	return provider.DecodeDirectory(raw)
}

// Observe implements provider.Driver. A plain directory in the subvolume's place is a permanent error.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) (*Status, error) {
	f, err := provider.ObserveDirectory(ctx, h, v)
	if f == nil || err != nil {
		return nil, err
	}
	if !f.Subvolume {
		return nil, provider.PermanentHint(fmt.Errorf("%s is a plain directory, not a subvolume", v.Path),
			"move it away, apply, and copy its content back")
	}
	st := &Status{Directory: *f}
	return st, st.readQuota(ctx, h, v)
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Volume, have *Status) plan.Delta {
	if have == nil {
		return provider.DiffDirectory(want, nil)
	}
	d := provider.DiffDirectory(want, &have.Directory)
	d.Compare("limit", provider.SizeText(have.Limit), provider.SizeText(want.SizeBytes))
	if provider.Shrinks(want, have.Limit) {
		d.Reason = provider.ShrinkReason(want, have.Used)
	}
	return d
}

// Apply implements provider.Driver.
func (d Driver) Apply(ctx context.Context, h host.Host, a object.Address, v spec.Volume, delta plan.Delta) error {
	err := provider.ApplyDirectory(ctx, h, v, delta, func() error {
		if _, err := h.Lstat(v.Path); err == nil {
			return nil // made by an apply that was killed
		}
		return run(ctx, h, "subvolume", "create", v.Path)
	})
	if err != nil {
		return err
	}
	have, err := d.Observe(ctx, h, a, v)
	if err != nil {
		return err
	}
	if have == nil {
		return fmt.Errorf("%s went away while it was changed", v.Path)
	}
	return limit(ctx, h, v, have)
}

// Delete implements provider.Deleter. The subvolume is put aside; the one that was put aside before is removed.
func (Driver) Delete(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) error {
	return provider.DeleteDirectory(ctx, h, v, func() error {
		m, err := h.Lstat(v.Path)
		if err != nil {
			return nil
		}
		if m.Inode != subvolumeInode {
			return provider.PermanentHint(fmt.Errorf("%s is a plain directory, not a subvolume", v.Path),
				"remove it by hand if nobody needs it")
		}
		if err := drop(ctx, h, asideOf(v)); err != nil {
			return err
		}
		if err := h.MkdirAll(filepath.Dir(asideOf(v)), 0o700, host.Root); err != nil {
			return err
		}
		return h.Rename(v.Path, asideOf(v))
	})
}

// subvolumeInode is the inode of every subvolume's top (BTRFS_FIRST_FREE_OBJECTID).
const subvolumeInode = 256

func run(ctx context.Context, h host.Host, args ...string) error {
	_, err := h.Run(ctx, host.Command{Argv: append([]string{"btrfs", "--quiet"}, args...), Mutates: true})
	return err
}
