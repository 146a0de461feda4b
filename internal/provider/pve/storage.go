package pve

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Storage adds storages that Proxmox does not have. It never makes a pool or a file system, and never changes or
// removes a storage.
type Storage struct{}

// NewStorage returns the driver without its types.
func NewStorage() provider.Erased { return provider.New(Storage{}) }

// StorageStatus is a storage that Proxmox has.
type StorageStatus struct {
	Type string `json:"type"`
}

const storageLimit = 2 * time.Minute

var (
	storageID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]$`) // pve-storage-id
	dataset   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)*$`)
)

// Decode implements provider.Driver.
func (Storage) Decode(raw json.RawMessage) (spec.Storage, diag.List) {
	s, diags := provider.Decode[spec.Storage](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !storageID.MatchString(s.ID) {
		diags.Errorf("%q is no name for a storage", s.ID)
	}
	switch {
	case (s.Dataset == "") == (s.Directory == ""):
		diags.Errorf("storage %s is either a dataset or a directory", s.ID)
	case s.Dataset != "" && !dataset.MatchString(s.Dataset):
		diags.Errorf("storage %s: %q is no ZFS dataset", s.ID, s.Dataset)
	case s.Directory != "":
		checkPath(&diags, s.Directory)
	}
	return s, diags
}

// Observe implements provider.Driver. It runs no command. A storage that is disabled, or another node's, is there all
// the same.
func (Storage) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Storage) (*StorageStatus, error) {
	raw, err := h.ReadFile(filepath.Join(s.Proxmox.Dir, "storage.cfg"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(raw)) {
		if kind, id, ok := strings.Cut(strings.TrimRight(line, "\n"), ": "); ok && !strings.HasPrefix(line, "\t") &&
			strings.TrimSpace(id) == s.ID {
			return &StorageStatus{Type: kind}, nil
		}
	}
	return nil, err
}

// Diff implements provider.Driver.
func (Storage) Diff(_ spec.Storage, have *StorageStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "proxmox has no storage of that name"}
	}
	return plan.Delta{}
}

// Apply implements provider.Driver.
func (k Storage) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Storage, _ plan.Delta) error {
	if have, err := k.Observe(ctx, h, a, s); have != nil || err != nil {
		return err
	}
	if err := provider.ProxmoxWritable(h, s.Proxmox); err != nil {
		return err
	}
	argv := []string{"pvesm", "add", "dir", s.ID, "--path", s.Directory}
	if s.Dataset != "" {
		argv = []string{"pvesm", "add", "zfspool", s.ID, "--pool", s.Dataset}
		if err := makeDataset(ctx, h, s.Dataset); err != nil {
			return err
		}
	} else if err := h.MkdirAll(s.Directory, 0o755, host.Root); err != nil {
		return err
	}
	res, err := h.Run(ctx, host.Command{Argv: append(argv, "--content", strings.Join(s.Content, ",")), Mutates: true,
		Limit: storageLimit})
	return explain(s.ID, res, err)
}

// makeDataset makes one where there is none. Its pool is there already, or this fails.
func makeDataset(ctx context.Context, h host.Host, name string) error {
	res, err := h.Run(ctx, host.Command{Argv: []string{"zfs", "list", "-H", "-o", "name", name}, Limit: storageLimit})
	if err == nil || !strings.Contains(string(res.Stderr), "dataset does not exist") {
		return err
	}
	_, err = h.Run(ctx, host.Command{Argv: []string{"zfs", "create", name}, Mutates: true, Limit: storageLimit})
	return err
}
