// Package zfs keeps volumes that are ZFS datasets on the hypervisor: POOL/phoenix-CONTAINER-NAME, with the volume's
// size as refquota, mounted by phoenix alone (canmount=noauto) in the closed directory that every volume has.
//
// Whose a dataset is stands in two user properties of its own, which are set as it is made: phoenix:volume (103/ssl)
// and phoenix:path (where it belongs, so that two phoenix roots with one pool do not meet). Nothing without them is
// touched.
package zfs

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// The user properties that are a volume's mark.
const (
	volumeProperty = "phoenix:volume"
	pathProperty   = "phoenix:path"
)

// Driver keeps datasets. It implements provider.Driver, provider.Deleter, provider.Keeper and provider.Watcher.
type Driver struct{}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

var (
	poolName   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9][A-Za-z0-9_.:-]*)*$`)
	volumeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]*$`)
)

// nameLimit leaves room for what is added to a dataset's name, of which ZFS takes 255 characters.
const nameLimit = 200

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Volume, diag.List) {
	v, diags := provider.DecodeDirectory(raw)
	if diags.HasErrors() {
		return v, diags
	}
	if !poolName.MatchString(v.Pool) {
		diags.Errorf("pool %q is not the name of a ZFS dataset", v.Pool)
	}
	if !volumeName.MatchString(v.Container) || !volumeName.MatchString(v.Name) || len(dataset(v)) > nameLimit {
		diags.Errorf("volume %q of container %q cannot be part of a dataset's name", v.Name, v.Container)
	}
	if strings.ContainsAny(v.Path, "\t\n") {
		diags.Errorf("volume path %q has a tab or a line's end, which zfs cannot print", v.Path)
	}
	return v, diags
}

func dataset(v spec.Volume) string { return v.Pool + "/phoenix-" + v.Container + "-" + v.Name }

// asideOf is where a deleted volume waits until the next one of its name is deleted.
func asideOf(v spec.Volume) string { return dataset(v) + ".deleted" }

func markOf(v spec.Volume) string { return v.Container + "/" + v.Name }

// zfs runs a command that changes something.
func zfs(ctx context.Context, h host.Host, args ...string) error {
	res, err := h.Run(ctx, host.Command{Argv: append([]string{"zfs"}, args...), Mutates: true})
	return explain(res, err)
}

// explain adds what a person can do to what zfs says.
func explain(res host.Result, err error) error {
	if err == nil {
		return nil
	}
	said := string(res.Stderr)
	switch {
	case host.Missing(err):
		return provider.PermanentHint(err, "apt-get install zfsutils-linux")
	case strings.Contains(said, "modules cannot be auto-loaded"), strings.Contains(said, "modules are not loaded"):
		return provider.PermanentHint(err, "this kernel has no ZFS now: modprobe zfs")
	case strings.Contains(said, "key not loaded"):
		return provider.PermanentHint(err, "zfs load-key -r the encrypted dataset above it")
	case strings.Contains(said, "is busy"):
		return provider.WithHint(err, "something still uses it: fuser -vm (package psmisc), or a container that has "+
			"it mounted")
	case strings.Contains(said, "out of space"):
		return provider.PermanentHint(err, "the pool is full: free some space in it, snapshots for example (zfs list "+
			"-t snapshot)")
	case strings.Contains(said, "permission denied"):
		return provider.PermanentHint(err, "phoenix needs root, or zfs allow")
	}
	return err
}
