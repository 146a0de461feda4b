package config

import (
	"path"
	"slices"
	"strings"
)

// Storage is one of a Proxmox host's.
type Storage struct {
	ID, Type string
	Path     string   // of one that is a directory; empty: it is none
	Pool     string   // of one on ZFS: the dataset
	Content  []string // what it takes: rootdir are containers, vztmpl archives
}

// ParseStorages reads /etc/pve/storage.cfg. Storages that are disabled, or another node's, are left out.
func ParseStorages(text, node string) []Storage {
	var out []Storage
	var away bool
	done := func() {
		if away {
			out = out[:len(out)-1]
		}
		away = false
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		indented := strings.HasPrefix(line, "\t") || strings.HasPrefix(line, " ")
		switch {
		case len(f) == 0 || strings.HasPrefix(f[0], "#"):
		case !indented && len(f) == 2 && strings.HasSuffix(f[0], ":"):
			done()
			out = append(out, Storage{Type: strings.TrimSuffix(f[0], ":"), ID: f[1]})
		case !indented || len(out) == 0:
		default:
			s := &out[len(out)-1]
			switch value := strings.Join(f[1:], " "); f[0] {
			case "path":
				s.Path = path.Clean(value)
			case "pool":
				s.Pool = value
			case "content":
				s.Content = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
			case "disable":
				away = away || value != "0"
			case "nodes":
				away = away || node != "" && !slices.Contains(strings.Split(value, ","), node)
			}
		}
	}
	done()
	return out
}

// takes reports whether containers can be on it.
func (s Storage) takes() bool { return slices.Contains(s.Content, "rootdir") }

// snapshots reports whether a container's state can be kept on it. Images in a directory cannot.
func (s Storage) snapshots() bool {
	return slices.Contains([]string{"zfspool", "lvmthin", "btrfs", "rbd", "zfs"}, s.Type)
}

// Pools are those storages that containers can be on, as Machine.Pools has them.
func Pools(storages []Storage) map[string]string {
	out := map[string]string{}
	for _, s := range storages {
		if s.takes() {
			out[s.ID] = "pve"
		}
	}
	return out
}
