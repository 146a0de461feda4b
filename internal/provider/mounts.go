package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const (
	// bindOptions show a directory with all that is mounted below it, and what is mounted or unmounted there while the
	// container runs. Without rbind the kernel refuses one that has mounts below it to an unprivileged container, which
	// then does not start (mount_namespaces(7), on mounts that are locked together).
	bindOptions = "rbind,rslave,create=dir"
	// plainOptions are what phoenix wrote before.
	plainOptions = "bind,create=dir"
	// readOnlyOptions make the one file system read-only that is mounted, so that it comes alone.
	readOnlyOptions = "bind,ro,private,create=dir"
)

// MountEntry shows a directory of the hypervisor in a container, as lxc.mount.entry has it.
func MountEntry(m spec.Mount) string {
	options := bindOptions
	if m.ReadOnly {
		options = readOnlyOptions
	}
	return fmt.Sprintf("%s %s none %s 0 0", host.Escape(m.Source), host.Escape(strings.TrimPrefix(m.Target, "/")),
		options)
}

// PlainBinds is a container's configuration as phoenix wrote it before: what has been started with it shows what is
// mounted later just the same, and need not be restarted.
func PlainBinds(text string) string {
	return strings.ReplaceAll(text, " none "+bindOptions+" 0 0", " none "+plainOptions+" 0 0")
}

// Mountable fails where a directory that is to be mounted in a container is not there, is something else, or has
// mounts below it that cannot come along: what only a start would show, when the container was stopped for it.
func Mountable(h host.Host, id string, m spec.Mount) error {
	st, err := h.Lstat(m.Source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return PermanentHint(fmt.Errorf("container %s cannot start: %s, which is mounted in it, is not there", id,
			m.Source), "make the directory, or take the line out of the configuration")
	case err != nil:
		return err
	case !st.Mode.IsDir():
		return PermanentHint(fmt.Errorf("container %s cannot start: %s, which is mounted in it, is a %s, not a "+
			"directory", id, m.Source, host.KindOf(st.Mode)), "name the directory itself")
	case !m.ReadOnly:
		return nil
	}
	for _, x := range HypervisorMounts(h) {
		if strings.HasPrefix(x.Point, m.Source+"/") && !strings.Contains(x.Point, "/.zfs/") {
			return PermanentHint(fmt.Errorf("container %s cannot start: %s is mounted below %s, which it sees "+
				"read-only: it would be writable", id, x.Point, m.Source),
				"name "+x.Point+` in mount_points by itself, or write "read_only": false`)
		}
	}
	return nil
}

// ParseMountEntry reads what MountEntry writes, or another entry that binds a directory; false: it is none.
func ParseMountEntry(value string) (m spec.Mount, ok bool) {
	f := strings.Fields(value)
	if len(f) < 4 || !filepath.IsAbs(f[0]) {
		return m, false
	}
	bind := false
	for o := range strings.SplitSeq(f[3], ",") {
		switch o {
		case "bind", "rbind":
			bind = true
		case "ro":
			m.ReadOnly = true
		case "optional", "create=file":
			return m, false
		}
	}
	m.Source = filepath.Clean(host.Unescape(f[0]))
	m.Target = filepath.Join("/", host.Unescape(f[1]))
	return m, bind
}
