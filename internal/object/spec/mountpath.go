package spec

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// PathFault is why nothing can be mounted from or at a path, and what to do.
type PathFault struct{ Why, Hint string }

const (
	// mountPathLimit keeps source, target and options of one mount, escaped, within the 4096 bytes that lxc reads of
	// its line (PATH_MAX).
	mountPathLimit = 1900
	nameLimit      = 255 // NAME_MAX
)

// MountPath cleans one end of a mount, on the hypervisor or inside, and says what is wrong with it; nil: nothing is.
// What checks the users' file and what the drivers check are both this function, so that neither takes what the other
// refuses. A trailing slash is taken off; anything else that is not clean is a fault, as it may be a mistake.
func MountPath(p string) (string, *PathFault) {
	clean := path.Clean(p)
	switch {
	case p == "":
		return "", &PathFault{"is empty", "write an absolute path"}
	case !strings.HasPrefix(p, "/"):
		return clean, &PathFault{fmt.Sprintf("%q is not an absolute path", p), "begin it with /"}
	case clean != strings.TrimSuffix(p, "/") && p != "/":
		return clean, &PathFault{fmt.Sprintf("%q has . or .. or // in it", p), "write " + clean}
	case clean == "/":
		return clean, &PathFault{"/ is the root directory", "name a directory below it"}
	case !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return clean, &PathFault{fmt.Sprintf("%q has a control character in it", p), "letters and digits will do"}
	case escapedLen(clean) > mountPathLimit:
		return clean, &PathFault{fmt.Sprintf("a path of %d bytes is too long to be mounted", len(clean)),
			fmt.Sprintf("at most %d bytes", mountPathLimit)}
	}
	for name := range strings.SplitSeq(clean, "/") {
		if len(name) > nameLimit {
			return clean, &PathFault{fmt.Sprintf("a name of %d bytes is too long for a directory", len(name)),
				fmt.Sprintf("at most %d bytes", nameLimit)}
		}
	}
	return clean, nil
}

// escapedLen is the length of a path as fstab(5) has it: blanks and backslashes take four bytes.
func escapedLen(p string) int { return len(p) + 3*(strings.Count(p, " ")+strings.Count(p, `\`)) }

// ProxmoxMountPath is MountPath for a raw line of a container's file on a Proxmox host.
func ProxmoxMountPath(p string) (string, *PathFault) {
	clean, fault := MountPath(p)
	if fault == nil && strings.ContainsFunc(clean, unicode.IsSpace) {
		fault = &PathFault{fmt.Sprintf("%q cannot be mounted by Proxmox: it has a blank in it", clean),
			"give the directory a name without blanks, or a path without"}
	}
	return clean, fault
}

// ProxmoxVolumePath is ProxmoxMountPath for where a volume of one of Proxmox's storages is mounted, which stands among
// other values.
func ProxmoxVolumePath(p string) (string, *PathFault) {
	clean, fault := ProxmoxMountPath(p)
	if i := strings.IndexAny(clean, ",=:"); fault == nil && i >= 0 {
		fault = &PathFault{fmt.Sprintf("%q cannot be mounted by Proxmox: it has a %q in it", clean, clean[i]),
			"give the directory a name of letters and digits"}
	}
	return clean, fault
}
