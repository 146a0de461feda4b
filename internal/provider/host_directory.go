package provider

import (
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// usable fails where a directory of the users' own is not there any more, or cannot hold the keys that are to go into
// it. It is not changed for that: the file says what may be changed.
func usable(v spec.Volume, f *Directory) error {
	if f == nil {
		return PermanentHint(fmt.Errorf("%s, which container %s mounts, is not there any more", v.Path, v.Container),
			"make it or mount what it is on; phoenix makes no directory that a file names by its path")
	}
	if !v.Keys {
		return nil
	}
	demands, owner := v.Demands(), directoryOwner(v)
	if f.UID != owner.UID && !demands.UID {
		return PermanentHint(
			fmt.Errorf("%s holds keys of container %s and belongs to %d, not to %d, which is %d inside", v.Path,
				v.Container, f.UID, owner.UID, v.UID),
			fmt.Sprintf(`"owner_uid": %d, "owner_gid": %d in its mount_points lets phoenix set that; or: %s`, v.UID,
				v.GID,
				host.Quote([]string{"chown", fmt.Sprintf("%d:%d", owner.UID, owner.GID), v.Path})))
	}
	if f.Mode&0o022 != 0 && !demands.Mode {
		return PermanentHint(fmt.Errorf("%s holds keys of container %s and others can change it (mode %04o)", v.Path,
			v.Container, f.Mode),
			`"mode": "0700" in its mount_points lets phoenix set that; or: `+
				host.Quote([]string{"chmod", "go-w", v.Path}))
	}
	return nil
}
