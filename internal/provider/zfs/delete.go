package zfs

import (
	"context"
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Delete implements provider.Deleter. The dataset is put aside under another name, unmounted; the one that was put
// aside before is destroyed. Only what carries the mark is touched.
func (Driver) Delete(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) error {
	s, err := look(ctx, h, v)
	if err != nil {
		return err
	}
	have, err := s.status(h, v)
	if err != nil {
		return err
	}
	if have == nil {
		return away(h, v)
	}
	if have.Mounted {
		if err := zfs(ctx, h, "unmount", dataset(v)); err != nil {
			return err
		}
	}
	if err := s.forget(ctx, h, v); err != nil {
		return err
	}
	if err := zfs(ctx, h, "rename", dataset(v), asideOf(v)); err != nil {
		return err
	}
	return away(h, v)
}

// away removes the directory that the dataset was mounted on; it is empty.
func away(h host.Host, v spec.Volume) error {
	if err := h.Remove(v.Path); err != nil {
		return err
	}
	return provider.DropParent(h, v)
}

func (s seen) forget(ctx context.Context, h host.Host, v spec.Volume) error {
	if s.aside == nil {
		return nil
	}
	if err := s.aside.owned(v, asideOf(v)); err != nil {
		return err
	}
	return zfs(ctx, h, "destroy", "-r", asideOf(v))
}

// Kept implements provider.Keeper.
func (Driver) Kept(v spec.Volume) provider.Kept {
	return provider.Kept{
		Place:   "dataset " + asideOf(v),
		Restore: fmt.Sprintf("zfs rename %s %s", asideOf(v), dataset(v)),
		Remove:  "zfs destroy -r " + asideOf(v),
	}
}

// Forget implements provider.Keeper.
func (Driver) Forget(ctx context.Context, h host.Host, v spec.Volume) error {
	s, err := look(ctx, h, v)
	if err != nil {
		return err
	}
	return s.forget(ctx, h, v)
}
