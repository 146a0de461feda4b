package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Directories of the hypervisor that are mounted in a container are the users'. Only what has ids of the container's
// former range in them moves along, and only where no other container looks at it.

// inBinds are the former ranges that are moved in the users' directories: ids below 65536 are those of the hypervisor's
// own users, of which nobody can tell whether they meant the container.
func inBinds(from []spec.IDMap) []spec.IDMap {
	return slices.DeleteFunc(slices.Clone(from), func(m spec.IDMap) bool { return m.Base < idrange.Size })
}

// WalkBinds moves what is the container's in the users' directories, whose owner may be anybody.
func WalkBinds(ctx context.Context, h host.Host, s spec.IDRange, from []spec.IDMap) error {
	for _, dir := range s.Binds {
		if err := walkIDs(ctx, h, dir, s.IDMap, inBinds(from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// tellBinds adds a field for each directory of the users' that a move is about.
func tellBinds(d *plan.Delta, want spec.IDRange, have *IDsStatus, former string) {
	var from []spec.IDMap
	for _, text := range strings.Fields(former) {
		if m, ok := idrange.Parse(text); ok {
			from = append(from, m)
		}
	}
	for _, dir := range want.Binds {
		to := idrange.Text(want.IDMap)
		if len(inBinds(from)) == 0 {
			to = "stays as it is: its ids are the hypervisor's own"
		}
		d.Compare("files in "+dir, former, to)
	}
	for _, other := range have.Shared {
		d.Compare("mounted in another container too", other, "")
	}
}

// AlsoMounted are the users' directories of a container among the sources that another one mounts, or a directory in or
// above one.
func AlsoMounted(h host.Host, s spec.IDRange, sources []string, name, file string) (out []string) {
	for _, source := range sources {
		for _, dir := range s.Binds {
			if sameDir(h, source, dir) {
				out = append(out, fmt.Sprintf("%s by container %s (%s)", dir, name, file))
			}
		}
	}
	return out
}

// sameDir is whether one path is, holds or is in the other, by its name or as the inode that is there.
func sameDir(h host.Host, a, b string) bool {
	if a == "/" || b == "/" || a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/") {
		return true
	}
	ma, errA := h.Lstat(a)
	mb, errB := h.Lstat(b)
	return errA == nil && errB == nil && ma.Inode == mb.Inode && ma.Device == mb.Device
}

// RefuseShared is the error for directories that another container mounts too.
func RefuseShared(s spec.IDRange, shared []string) error {
	return PermanentHint(
		fmt.Errorf("container %s keeps its ids: a directory of the hypervisor that it mounts is mounted too: %s",
			s.ID, strings.Join(shared, ", ")),
		"give each container a directory of its own (host_path in mount_points, lxc.mount.entry in the other's "+
			"configuration), then phoenix apply "+s.ID+" --yes")
}
