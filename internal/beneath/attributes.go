package beneath

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

const attributesLimit = 64 << 10 // the kernel's (xattr(7))

// attributes copies extended attributes: capabilities, access lists, and what users keep there. Marks of phoenix and
// of security modules are the original's alone.
func attributes(from, to int) error {
	list := make([]byte, attributesLimit)
	n, err := unix.Flistxattr(from, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, attributesLimit)
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if !copied(name) {
			continue
		}
		n, err := unix.Fgetxattr(from, name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(to, name, value[:n], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}

func copied(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.") ||
		strings.HasPrefix(name, "system.posix_acl_")
}
