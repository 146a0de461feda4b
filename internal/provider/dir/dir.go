// Package dir keeps volumes that are plain directories on the hypervisor. A directory has no size of its own:
// size_bytes is not kept by this backend.
package dir

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps directories. It implements provider.Driver and provider.Deleter.
type Driver struct{}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Volume, diag.List) {
	return provider.DecodeDirectory(raw)
}

// Observe implements provider.Driver.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) (*provider.Directory, error) {
	return provider.ObserveDirectory(ctx, h, v)
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Volume, have *provider.Directory) plan.Delta {
	return provider.DiffDirectory(want, have)
}

// Apply implements provider.Driver.
func (Driver) Apply(ctx context.Context, h host.Host, _ object.Address, v spec.Volume, d plan.Delta) error {
	return provider.ApplyDirectory(ctx, h, v, d, func() error { return h.MkdirAll(v.Path, 0o700, host.Root) })
}

// Delete implements provider.Deleter. The directory is renamed first, so that no half of it is ever taken for the
// volume.
func (Driver) Delete(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) error {
	dead := filepath.Join(filepath.Dir(v.Path), "."+filepath.Base(v.Path)+".deleted")
	return provider.DeleteDirectory(ctx, h, v, func() error {
		if err := h.RemoveAll(dead); err != nil {
			return err
		}
		if _, err := h.Lstat(v.Path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := h.Rename(v.Path, dead); err != nil {
			return err
		}
		return h.RemoveAll(dead)
	})
}
