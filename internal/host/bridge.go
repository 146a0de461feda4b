package host

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// LeadingOut is a port of a bridge that is the machine's own and no guest's: a network card, or what is made of one
// (VLAN, bond). Empty: there is none, or no such bridge, or /sys is another network namespace's.
func LeadingOut(h Host, bridge string) (string, error) {
	ports, err := h.ReadDir(filepath.Join("/sys/class/net", bridge, "brif"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	for _, name := range ports {
		if machines(h, name) {
			return name, nil
		}
	}
	return "", err
}

func machines(h Host, name string) bool {
	dir := filepath.Join("/sys/class/net", name)
	for _, mark := range []string{"device", "bonding"} {
		if _, err := h.Lstat(filepath.Join(dir, mark)); err == nil {
			return true
		}
	}
	parts, _ := h.ReadDir(dir) // a port that is gone meanwhile is nobody's
	for _, p := range parts {
		if strings.HasPrefix(p, "lower_") {
			return true
		}
	}
	return false
}
