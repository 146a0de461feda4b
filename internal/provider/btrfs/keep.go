package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// keptDirectory, beside the directories of all containers' volumes, has what was put aside. Only root can enter it.
const keptDirectory = ".kept"

func keptName(v spec.Volume) string {
	return filepath.Join(filepath.Dir(filepath.Dir(v.Path)), keptDirectory, v.Container+"-"+v.Name)
}

// asideOf is where a deleted volume waits until the next one of its name is deleted.
func asideOf(v spec.Volume) string { return keptName(v) + ".deleted" }

const (
	snapshotLayout = "20060102T150405Z"
	snapshotsKept  = 3
)

// snapshots are those of a volume, oldest first.
func snapshots(h host.Host, v spec.Volume) ([]string, error) {
	top := filepath.Dir(keptName(v))
	names, err := h.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, name := range names {
		if strings.HasPrefix(name, filepath.Base(keptName(v))+"@") {
			out = append(out, filepath.Join(top, name))
		}
	}
	return out, err
}

// snapshot keeps the volume as it is now, read-only, and of its snapshots only the latest few.
func snapshot(ctx context.Context, h host.Host, v spec.Volume) error {
	have, err := snapshots(h, v)
	if err != nil {
		return err
	}
	name := keptName(v) + "@" + h.Now().UTC().Format(snapshotLayout)
	if _, err := h.Lstat(name); err == nil {
		return nil
	}
	if err := h.MkdirAll(filepath.Dir(name), 0o700, host.Root); err != nil {
		return err
	}
	if err := run(ctx, h, "subvolume", "snapshot", "-r", v.Path, name); err != nil {
		return err
	}
	for len(have) >= snapshotsKept {
		if err := drop(ctx, h, have[0]); err != nil {
			return err
		}
		have = have[1:]
	}
	return nil
}

// drop removes a subvolume; none is no error.
func drop(ctx context.Context, h host.Host, path string) error {
	if _, err := h.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return run(ctx, h, "subvolume", "delete", path)
}

// Kept implements provider.Keeper.
func (Driver) Kept(v spec.Volume) provider.Kept {
	return provider.Kept{
		Place: "subvolume " + asideOf(v),
		Restore: host.Quote([]string{"mkdir", "-p", filepath.Dir(v.Path)}) + " && " +
			host.Quote([]string{"mv", "-T", asideOf(v), v.Path}),
		Remove: host.Quote([]string{"btrfs", "subvolume", "delete", asideOf(v)}),
	}
}

// Forget implements provider.Keeper: the snapshots go too.
func (Driver) Forget(ctx context.Context, h host.Host, v spec.Volume) error {
	kept, err := snapshots(h, v)
	if err != nil {
		return err
	}
	for _, path := range append(kept, asideOf(v)) {
		if err := drop(ctx, h, path); err != nil {
			return err
		}
	}
	top := filepath.Dir(asideOf(v))
	if left, err := h.ReadDir(top); err != nil || len(left) > 0 {
		return nil
	}
	return h.Remove(top)
}
