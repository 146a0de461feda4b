package pve

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// ownSnapshot begins the description of snapshots that phoenix takes. By it one that was cut off is known from an
// administrator's.
const ownSnapshot = "phoenix: "

// mountedPath stands while phoenix has a stopped container's file systems mounted, beside Proxmox's own files, which a
// power cut does not tear apart. The lock alone may be of an administrator who mounted them.
func mountedPath(p spec.Proxmox, id string) string {
	return filepath.Join(p.Dir, "phoenix", "mounted", id)
}

func isMounted(h host.Host, p spec.Proxmox, id string) bool {
	_, err := h.Lstat(mountedPath(p, id))
	return err == nil
}

// release takes away the lock of what phoenix itself did to a container and was cut off at, with what is half done: the
// container would not start again. Any other lock is an error, and is not touched.
func release(ctx context.Context, h host.Host, p spec.Proxmox, id string, c *conf) (*conf, error) {
	lock := c.current().get("lock")
	if lock == "" {
		if isMounted(h, p, id) {
			return c, h.Remove(mountedPath(p, id))
		}
		return c, nil
	}
	if pid, what := process(h, atWork(id)); pid != "" {
		return nil, lockedError(id, lock, fmt.Errorf("process %s is at work on it: %s", pid, what))
	}
	name, own := halfSnapshot(c)
	var err error
	switch {
	case !c.marked(id):
		return nil, lockedError(id, lock, nil)
	case lock == mountedLock && c.ids(id).IsMoving():
		return nil, hinted(fmt.Errorf("container %s is locked: its files are being moved to another range of ids", id),
			"phoenix apply "+id+" --yes goes on with it")
	case lock == "disk":
		err = unlock(ctx, h, id)
	case strings.HasPrefix(lock, "snapshot") && own:
		if err = unlock(ctx, h, id); err == nil {
			_, err = pct(ctx, h, id, callLimit, "delsnapshot", id, name, "--force", "1")
		}
	case lock == "mounted" && isMounted(h, p, id):
		err = unmount(ctx, h, p, id)
	default:
		return nil, cutOff(id, lock, name)
	}
	if err != nil {
		return nil, err
	}
	again, err := read(h, p, id)
	if err == nil && again == nil {
		err = fmt.Errorf("container %s is gone", id)
	}
	return again, err
}

// halfSnapshot is a snapshot that was begun or is half removed, and whether phoenix took it.
func halfSnapshot(c *conf) (name string, own bool) {
	for _, name := range c.snapshots() {
		if s := c.section(name); s.get("snapstate") != "" {
			return name, strings.HasPrefix(strings.Join(s.description(), "\n"), ownSnapshot)
		}
	}
	return "", false
}

// cutOff is a lock of others', on which nobody on this node is at work.
func cutOff(id, lock, snapshot string) error {
	err := lockedError(id, lock, nil)
	const nobody = "nobody on this node is at work on it: "
	switch {
	case strings.HasPrefix(lock, "snapshot") && snapshot != "":
		return provider.WithHint(err, fmt.Sprintf("%spct unlock %s, then pct delsnapshot %[2]s %s --force 1", nobody,
			id, snapshot))
	case lock == "backup":
		return provider.WithHint(err, nobody+"wait for its end if a backup of it runs elsewhere, else: pct unlock "+id+
			", and pct delsnapshot "+id+" vzdump --force 1 where there is one")
	case lock == "rollback":
		return provider.WithHint(err, nobody+"its volumes may be half rolled back: pct unlock "+id+
			", then the same pct rollback once more, before it starts")
	case lock == "migrate":
		return provider.WithHint(err, nobody+"look on which node its volumes are (pvesm list STORAGE --vmid "+id+
			") before pct unlock "+id)
	}
	return err
}

func unlock(ctx context.Context, h host.Host, id string) error {
	res, err := pct(ctx, h, id, callLimit, "unlock", id)
	if err != nil && strings.Contains(string(res.Stderr), "no lock found") {
		return nil
	}
	return err
}

// mountAll has Proxmox mount all of a stopped container, which locks it until unmount.
func mountAll(ctx context.Context, h host.Host, p spec.Proxmox, id string) error {
	if !isMounted(h, p, id) {
		lock := filepath.Join(p.Locks, "lxc", "phoenix-mounted-"+id+".lock")
		if res, err := provider.ReplaceProxmox(ctx, h, p, lock, mountedPath(p, id), nil, "phoenix\n"); err != nil {
			return explain(id, res, err)
		}
	}
	_, err := pct(ctx, h, id, callLimit, "mount", id)
	return err
}

// unmount ends what mountAll began. After a power cut nothing is mounted, and the lock is all that is left.
func unmount(ctx context.Context, h host.Host, p spec.Proxmox, id string) error {
	raw, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	root := host.Escape(filepath.Join(p.State, id, "rootfs"))
	if strings.Contains(string(raw), " "+root+" ") || strings.Contains(string(raw), " "+root+"/") {
		_, err = pct(ctx, h, id, callLimit, "unmount", id)
	} else {
		err = unlock(ctx, h, id)
	}
	if err != nil {
		return err
	}
	return h.Remove(mountedPath(p, id))
}
