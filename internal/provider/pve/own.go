package pve

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// own sets owner and mode. What it gives is to be noted where only a mounted file system shows them.
func own(ctx context.Context, h host.Host, v spec.Volume, path string) (string, error) {
	outside := host.Owner{UID: v.IDMap.Outside(v.UID), GID: v.IDMap.Outside(v.GID)}
	m, err := h.Lstat(path)
	if err == nil && m.Mode.IsDir() {
		return "", ownDirectory(h, v, path, m, outside)
	}
	mode := fmt.Sprintf("%04o", v.Mode)
	set := fmt.Sprintf("%d:%d %s", v.UID, v.GID, mode)
	pid, perr := inside(v.Container).InitPID(ctx, h)
	if perr != nil {
		return "", perr
	}
	switch {
	case pid != 0: // by the container itself, so that no link of its making leads out of it
		_, err = inside(v.Container).Attach(ctx, h, host.Command{Mutates: true}, "sh", "-c",
			`chown "$2" "$1" && chmod "$3" "$1"`, "sh",
			v.MountPoint, fmt.Sprintf("%d:%d", v.UID, v.GID), mode)
	case err == nil:
		_, err = h.Run(ctx,
			host.Command{Mutates: true, Argv: []string{"unshare", "--mount", "sh", "-c", ownScript, "sh", path,
				strconv.Itoa(outside.UID), strconv.Itoa(outside.GID), mode}})
	default: // a device that is switched off: Proxmox knows how to switch it on
		err = ownMounted(ctx, h, v, outside, mode)
	}
	return set, err
}

func ownDirectory(h host.Host, v spec.Volume, path string, m host.Meta, want host.Owner) error {
	if m.UID != want.UID || m.GID != want.GID {
		if err := h.Chown(path, want); err != nil {
			return err
		}
	}
	if spec.ModeOf(m.Mode) == v.Mode {
		return nil
	}
	return h.Chmod(path, v.Mode.Perm())
}

// ownScript sets owner and mode of the file system on $1 in a mount namespace that ends with it.
const ownScript = `set -e
dir=$(mktemp -d)
trap 'umount "$dir"; rmdir "$dir"' EXIT
mount -o nosuid,nodev "$1" "$dir"
chown "$2:$3" "$dir"
chmod "$4" "$dir"`

// mountedScript sets owner and mode of $1/$2, unless a link leads away from there. The container does not run
// meanwhile.
const mountedScript = `set -e
[ "$(realpath -- "$1$2")" = "$(realpath -- "$1")$2" ] || { echo "$2 leads elsewhere over a link" >&2; exit 1; }
mountpoint --quiet "$1$2"
chown "$3:$4" "$1$2"
chmod "$5" "$1$2"`

// ownMounted has Proxmox mount all of the stopped container, which locks it until it is unmounted.
func ownMounted(ctx context.Context, h host.Host, v spec.Volume, owner host.Owner, mode string) error {
	if err := mountAll(ctx, h, *v.Proxmox, v.Container); err != nil {
		return err
	}
	root := filepath.Join(v.Proxmox.State, v.Container, "rootfs")
	_, err := h.Run(ctx, host.Command{Mutates: true, Argv: []string{"sh", "-c", mountedScript, "sh", root, v.MountPoint,
		strconv.Itoa(owner.UID), strconv.Itoa(owner.GID), mode}})
	_, away := pct(context.WithoutCancel(ctx), h, v.Container, callLimit, "unmount", v.Container)
	if away == nil {
		away = h.Remove(mountedPath(*v.Proxmox, v.Container))
	}
	return errors.Join(err, away)
}
