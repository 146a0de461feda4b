package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// DirectoryMark is the extended attribute that says whose volume a directory is. The trusted namespace is out of a
// container's reach.
const DirectoryMark = "trusted.phoenix.address"

// closedParent lets a container's root through to its own volumes and shows nobody a list of them.
const closedParent = 0o710

// Directory is what was seen of a volume that is a directory on the hypervisor: a plain directory, a Btrfs subvolume or
// where a ZFS dataset is mounted. Ids are the host's.
type Directory struct {
	Path       string    `json:"path"`
	Address    string    `json:"address"` // from its mark; empty: unmarked
	UID        int       `json:"uid"`
	GID        int       `json:"gid"`
	Mode       spec.Mode `json:"mode"`
	Parent     string    `json:"parent"` // mode and owner, such as 0710 0:100000
	Subvolume  bool      `json:"subvolume,omitempty"`
	Unmarkable bool      `json:"unmarkable,omitempty"` // the file system has no extended attributes
}

// DecodeDirectory reads and checks the spec of a volume that is a directory.
func DecodeDirectory(raw []byte) (spec.Volume, diag.List) {
	v, diags := Decode[spec.Volume](raw)
	if diags.HasErrors() {
		return v, diags
	}
	if v.Container == "" || v.Name == "" {
		diags.Errorf("a volume needs a container and a name")
	}
	if !filepath.IsAbs(v.Path) || filepath.Clean(v.Path) != v.Path || v.Path == "/" {
		diags.Errorf("volume path %q is not a clean absolute path", v.Path)
	}
	return v, diags
}

// ObserveDirectory looks at a volume and at its mark; nil: there is none. A directory that is marked as another's is a
// permanent error.
func ObserveDirectory(ctx context.Context, h host.Host, v spec.Volume) (*Directory, error) {
	f, err := SeeDirectory(h, v)
	if err == nil && v.HostDirectory != nil {
		err = usable(v, f)
	}
	if f == nil || err != nil {
		return nil, err
	}
	if err := f.readMark(h); err != nil {
		return nil, err
	}
	want := DirectoryAddress(v)
	if pool, away := strings.CutPrefix(f.Address, want+" on "); away {
		return nil, PermanentHint(fmt.Errorf("%s is where %s is mounted, which is not here now", v.Path, pool),
			"zpool import; to begin anew without it: rmdir "+v.Path)
	}
	if f.Address != "" && f.Address != want {
		return nil, PermanentHint(fmt.Errorf("%s belongs to %s, not to %s", v.Path, f.Address, want),
			"give each volume its own path")
	}
	return f, nil
}

// SeeDirectory looks at a volume without its mark; nil: there is none.
func SeeDirectory(h host.Host, v spec.Volume) (*Directory, error) {
	m, err := h.Lstat(v.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !m.Mode.IsDir() {
		return nil, PermanentHint(fmt.Errorf("%s is not a directory", v.Path),
			"move it away; phoenix does not remove what it did not make")
	}
	f := &Directory{Path: v.Path, UID: m.UID, GID: m.GID, Mode: spec.ModeOf(m.Mode), Subvolume: m.Inode == firstInode}
	p, err := h.Lstat(filepath.Dir(v.Path))
	f.Parent = parentText(spec.ModeOf(p.Mode), host.Owner{UID: p.UID, GID: p.GID})
	return f, err
}

// firstInode is the inode of every Btrfs subvolume's top (BTRFS_FIRST_FREE_OBJECTID).
const firstInode = 256

// DirectoryAddress is the address that a volume's mark has.
func DirectoryAddress(v spec.Volume) string {
	return string(object.NewAddress(spec.KindVolume, v.Container, v.Name))
}

func (f *Directory) readMark(h host.Host) error {
	mark, err := h.Getxattr(f.Path, DirectoryMark)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		f.Unmarkable = true
		return nil
	case err == nil && mark != "" && !strings.HasPrefix(mark, spec.KindVolume+"/"):
		return fmt.Errorf("the mark of %s (%s) is %q, and no volume's address", f.Path, DirectoryMark, mark)
	}
	f.Address = mark
	return err
}

// ownParent reports whether the directory above holds this container's volumes only, so that phoenix may close it.
func ownParent(v spec.Volume) bool { return filepath.Base(filepath.Dir(v.Path)) == v.Container }

func parentText(m spec.Mode, o host.Owner) string { return fmt.Sprintf("%04o %d:%d", m, o.UID, o.GID) }

func parentOwner(v spec.Volume) host.Owner { return host.Owner{UID: 0, GID: v.IDMap.Outside(0)} }

func directoryOwner(v spec.Volume) host.Owner {
	return host.Owner{UID: v.IDMap.Outside(v.UID), GID: v.IDMap.Outside(v.GID)}
}

// DiffDirectory compares owner, mode, mark and parent. It never asks for a replacement.
func DiffDirectory(want spec.Volume, have *Directory) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the volume does not exist"}
	}
	var d plan.Delta
	owner, demands := directoryOwner(want), want.Demands()
	if demands.UID {
		d.Compare("uid", strconv.Itoa(have.UID), strconv.Itoa(owner.UID))
	}
	if demands.GID {
		d.Compare("gid", strconv.Itoa(have.GID), strconv.Itoa(owner.GID))
	}
	if demands.Mode {
		d.Compare("mode", fmt.Sprintf("%04o", have.Mode), fmt.Sprintf("%04o", want.Mode))
	}
	if want.HostDirectory != nil {
		return d
	}
	if !have.Unmarkable {
		d.Compare("address", have.Address, DirectoryAddress(want))
	}
	if ownParent(want) {
		d.Compare("parent", have.Parent, parentText(closedParent, parentOwner(want)))
	}
	return d
}

// ApplyDirectory makes the delta go away; what is in the directory stays as it is. create makes the directory itself,
// closed (0700).
func ApplyDirectory(ctx context.Context, h host.Host, v spec.Volume, d plan.Delta, create func() error) error {
	if d.Action == plan.Create {
		if err := MakeParent(h, v); err != nil {
			return err
		}
		if err := create(); err != nil {
			return err
		}
	}
	have, err := ObserveDirectory(ctx, h, v)
	if err != nil {
		return err
	}
	d = DiffDirectory(v, have)
	if err := OwnDirectory(h, v, d); err != nil {
		return err
	}
	if d.Has("address") {
		err = MarkDirectory(h, v.Path, DirectoryAddress(v))
	}
	return err
}

// MarkDirectory writes a directory's mark.
func MarkDirectory(h host.Host, path, mark string) error {
	return h.Setxattr(path, DirectoryMark, mark)
}

// OwnDirectory sets what the delta says of owner, mode and parent.
func OwnDirectory(h host.Host, v spec.Volume, d plan.Delta) error {
	if d.Has("parent") {
		parent := filepath.Dir(v.Path)
		if err := errors.Join(h.Chown(parent, parentOwner(v)), h.Chmod(parent, closedParent)); err != nil {
			return err
		}
	}
	owner := host.Owner{UID: -1, GID: -1}
	if d.Has("uid") {
		owner.UID = directoryOwner(v).UID
	}
	if d.Has("gid") {
		owner.GID = directoryOwner(v).GID
	}
	if owner != (host.Owner{UID: -1, GID: -1}) {
		if err := h.Chown(v.Path, owner); err != nil {
			return err
		}
	}
	if !d.Has("mode") {
		return nil
	}
	return h.Chmod(v.Path, v.Mode.Perm())
}

// MakeParent makes what is missing above the volume. Only the container's own directory is closed to all others; those
// above it must let every container's root through (0711).
func MakeParent(h host.Host, v spec.Volume) error {
	parent := filepath.Dir(v.Path)
	if !ownParent(v) {
		return h.MkdirAll(parent, 0o711, host.Root)
	}
	if err := h.MkdirAll(filepath.Dir(parent), 0o711, host.Root); err != nil {
		return err
	}
	return h.MkdirAll(parent, closedParent, parentOwner(v))
}

// DeleteDirectory removes a volume that carries its mark, and its parent if that is then empty. remove takes the
// directory away for good. A directory of the users' own stays, whatever mark it carries. An unmarked directory is a
// permanent error.
func DeleteDirectory(ctx context.Context, h host.Host, v spec.Volume, remove func() error) error {
	if v.HostDirectory != nil {
		return nil
	}
	have, err := ObserveDirectory(ctx, h, v)
	if err != nil {
		return err
	}
	if have != nil && have.Address == "" {
		return PermanentHint(fmt.Errorf("%s is not marked as phoenix's and is kept", v.Path),
			"remove it by hand if nobody needs it")
	}
	if err := remove(); err != nil {
		return err
	}
	return DropParent(h, v)
}

// DropParent removes the directory of a container's volumes if nothing is left in it.
func DropParent(h host.Host, v spec.Volume) error {
	parent := filepath.Dir(v.Path)
	if left, err := h.ReadDir(parent); err != nil || len(left) > 0 || !ownParent(v) {
		return nil
	}
	return h.Remove(parent)
}
