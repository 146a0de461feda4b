package zfs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver. A dataset gets its mark, its size and its place as it is made, in one step.
func (d Driver) Apply(ctx context.Context, h host.Host, a object.Address, v spec.Volume, _ plan.Delta) error {
	have, err := d.Observe(ctx, h, a, v)
	if err != nil {
		return err
	}
	if have == nil {
		if err := create(ctx, h, v); err != nil {
			return err
		}
		have = &Status{}
	} else if err := settle(ctx, h, v, have); err != nil {
		return err
	}
	if !have.Mounted {
		if err := mount(ctx, h, v); err != nil {
			return err
		}
	}
	f, err := provider.SeeDirectory(h, v)
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("%s is not there after it was mounted", v.Path)
	}
	f.Address = provider.DirectoryAddress(v)
	return provider.OwnDirectory(h, v, provider.DiffDirectory(v, f))
}

func create(ctx context.Context, h host.Host, v spec.Volume) error {
	return zfs(ctx, h, "create", "-o", "canmount="+canMount, "-o", "mountpoint="+v.Path, "-o", refquota(v),
		"-o", volumeProperty+"="+markOf(v), "-o", pathProperty+"="+v.Path, dataset(v))
}

func refquota(v spec.Volume) string {
	if v.SizeBytes == 0 {
		return "refquota=none"
	}
	return "refquota=" + strconv.FormatInt(v.SizeBytes, 10)
}

// settle sets the properties that differ, all in one step.
func settle(ctx context.Context, h host.Host, v spec.Volume, have *Status) error {
	if err := provider.TooSmall(v, have.Refquota, have.Used); err != nil {
		return err
	}
	var set []string
	if have.Refquota != v.SizeBytes {
		set = append(set, refquota(v))
	}
	if have.CanMount != canMount {
		set = append(set, "canmount="+canMount)
	}
	if have.Mountpoint != v.Path { // where it is mounted elsewhere, zfs moves it
		set = append(set, "mountpoint="+v.Path)
	}
	if len(set) == 0 {
		return nil
	}
	if provider.Shrinks(v, have.Refquota) {
		if err := snapshot(ctx, h, v); err != nil {
			return err
		}
	}
	if err := zfs(ctx, h, append(append([]string{"set"}, set...), dataset(v))...); err != nil {
		return err
	}
	mounted, err := mountedAt(h, v.Path)
	have.Mounted = mounted == dataset(v)
	return err
}

// mount mounts the dataset. The directory under it is marked, so that nobody takes it for the volume while the pool is
// away.
func mount(ctx context.Context, h host.Host, v spec.Volume) error {
	if err := provider.MakeParent(h, v); err != nil {
		return err
	}
	if err := h.MkdirAll(v.Path, 0o700, host.Root); err != nil {
		return err
	}
	err := provider.MarkDirectory(h, v.Path, provider.DirectoryAddress(v)+" on "+dataset(v))
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return zfs(ctx, h, "mount", dataset(v))
}

const (
	snapshotPrefix = "phoenix-"
	snapshotLayout = "20060102T150405Z"
	snapshotsKept  = 3
)

// snapshot keeps the volume as it is now, and of the snapshots that phoenix made only the latest few.
func snapshot(ctx context.Context, h host.Host, v spec.Volume) error {
	argv := []string{"zfs", "list", "-H", "-d", "1", "-t", "snapshot", "-o", "name", "-s", "creation", dataset(v)}
	res, err := h.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return explain(res, err)
	}
	name := dataset(v) + "@" + snapshotPrefix + h.Now().UTC().Format(snapshotLayout)
	var have []string
	for s := range strings.FieldsSeq(string(res.Stdout)) {
		if s == name {
			return nil
		}
		if strings.HasPrefix(s, dataset(v)+"@"+snapshotPrefix) {
			have = append(have, s)
		}
	}
	if err := zfs(ctx, h, "snapshot", name); err != nil {
		return err
	}
	for len(have) >= snapshotsKept {
		if err := zfs(ctx, h, "destroy", have[0]); err != nil {
			return err
		}
		have = have[1:]
	}
	return nil
}

// Watch implements provider.Watcher: the volume's own mode and owner, and those of the directory that closes it.
func (Driver) Watch(want spec.Volume, _ *Status) provider.Watch {
	return provider.Watch{Paths: []string{want.Path, filepath.Dir(want.Path)}}
}
