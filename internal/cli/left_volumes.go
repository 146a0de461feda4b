package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// volumeRecord is a line of a container's notes on Proxmox that says which of its volumes is one of phoenix's.
var volumeRecord = regexp.MustCompile(`^#phoenix(?::|%3A) volume/(\d+)/(\S+) (\S+) (\S+)`)

// leftVolume is a volume that phoenix made and that the configuration does not name.
type leftVolume struct {
	address  object.Address
	provider string
	place    string // where it is, for people
	spec     spec.Volume
}

// leftVolumes tells of volumes that phoenix made and that the configuration does not name any more: those below the
// root directory, on whatever they are, and on a Proxmox host those that the notes of containers speak of. They are
// kept, and nobody would hear of them.
func (a *app) leftVolumes(h *house, objects []object.Object) (out diag.List) {
	for _, v := range a.left(h, objects) {
		out = append(out, diag.Diagnostic{Severity: diag.Note, Summary: string(v.address) + keptWords, Detail: v.place,
			Hint: "name it again, and it is mounted again; or look at what is on it, then: phoenix volumes remove " +
				volumeName(v.address)})
	}
	return out
}

// left are those volumes, sorted.
func (a *app) left(h *house, objects []object.Object) []leftVolume {
	found := map[object.Address]leftVolume{}
	for _, base := range a.volumeDirectories(h, objects) {
		for _, id := range a.namesIn(base) {
			if !plainNumber.MatchString(id) {
				continue // what is kept of deleted ones
			}
			for _, name := range a.namesIn(filepath.Join(base, id)) {
				if v, ok := a.leftDirectory(h, base, id, name); ok {
					found[v.address] = v
				}
			}
		}
	}
	if p := h.machine.Proxmox; p != nil {
		for _, name := range a.namesIn(filepath.Join(p.Dir, "lxc")) { // also of those that left the configuration
			for _, v := range a.leftInNotes(h, name) {
				found[v.address] = v
			}
		}
	}
	var out []leftVolume
	for address, v := range found {
		if _, named := object.Find(objects, address); !named {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b leftVolume) int { return strings.Compare(string(a.address), string(b.address)) })
	return out
}

// leftInNotes are the volumes that the notes of one of Proxmox's containers speak of.
func (a *app) leftInNotes(h *house, name string) (out []leftVolume) {
	id, isConfig := strings.CutSuffix(name, ".conf")
	raw, err := a.host.ReadFile(filepath.Join(h.machine.Proxmox.Dir, "lxc", name))
	if !isConfig || err != nil {
		return nil
	}
	head, _ := parted(string(raw))
	for line := range strings.Lines(head) {
		if m := volumeRecord.FindStringSubmatch(line); m != nil && m[1] == id {
			out = append(out, a.leftOnProxmox(h, m[1], m[2], strings.ReplaceAll(m[3], "%3A", ":")))
		}
	}
	return out
}

// volumeDirectories are the directories with a directory of volumes for each container: that of the root, and pools
// that are directories, also those that were written down and that no volume of the configuration is in any more.
func (a *app) volumeDirectories(h *house, objects []object.Object) []string {
	out := append([]string{filepath.Join(h.machine.Root, "volumes")}, a.knownPools(h)...)
	for _, base := range poolDirectories(objects) {
		if !slices.Contains(out, base) {
			out = append(out, base)
		}
	}
	return out
}

// poolDirectories are those that volumes of the configuration are in.
func poolDirectories(objects []object.Object) (out []string) {
	for _, o := range objects {
		var v spec.Volume
		if o.Address.Kind() != spec.KindVolume || decode(o.Spec, &v) != nil || v.HostDirectory != nil ||
			filepath.Base(filepath.Dir(v.Path)) != v.Container {
			continue
		}
		if base := filepath.Dir(filepath.Dir(v.Path)); !slices.Contains(out, base) {
			out = append(out, base)
		}
	}
	return out
}

// poolsPath is where it is written down which directories have volumes in them: when the last volume of one leaves the
// configuration, nothing else leads there.
func (h *house) poolsPath() string { return filepath.Join(h.machine.Root, "pools.json") }

// knownPools are those that were written down.
func (a *app) knownPools(h *house) (out []string) {
	raw, err := a.host.ReadFile(h.poolsPath())
	if err != nil || json.Unmarshal(raw, &out) != nil {
		return nil // none was
	}
	return slices.DeleteFunc(out, func(pool string) bool { return !filepath.IsAbs(pool) })
}

// rememberPools writes down the directories that volumes of the configuration are about to be made in, beside those
// that were before, as long as those are there.
func (s *session) rememberPools() error {
	own := filepath.Join(s.machine.Root, "volumes")
	known := s.knownPools(s.house)
	next := slices.DeleteFunc(slices.Clone(known), func(pool string) bool {
		_, err := s.host.Lstat(pool)
		return errors.Is(err, fs.ErrNotExist)
	})
	next = slices.DeleteFunc(append(next, poolDirectories(s.objects)...), func(pool string) bool { return pool == own })
	slices.Sort(next)
	next = slices.Compact(next)
	if slices.Equal(next, known) {
		return nil
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return errors.Join(s.host.MkdirAll(s.machine.Root, 0o711, host.Root),
		s.host.WriteFile(s.poolsPath(), raw, 0o600, host.Root))
}

// leftDirectory is what stands in a directory of volumes: a volume, or on a Proxmox host the record of one that waits
// for its container.
func (a *app) leftDirectory(h *house, base, id, name string) (leftVolume, bool) {
	path := filepath.Join(base, id, name)
	m, err := a.host.Lstat(path)
	if err != nil || strings.HasPrefix(name, ".") {
		return leftVolume{}, false
	}
	if h.machine.Proxmox != nil && m.Mode.IsRegular() {
		raw, err := a.host.ReadFile(path)
		r := volumeRecord.FindStringSubmatch("#" + string(raw))
		if err != nil || r == nil || r[1] != id {
			return leftVolume{}, false
		}
		return a.leftOnProxmox(h, id, r[2], r[3]), true
	}
	address := object.NewAddress(spec.KindVolume, id, name)
	if mark, err := a.host.Getxattr(path, provider.DirectoryMark); base != filepath.Join(h.machine.Root, "volumes") &&
		(err != nil || !strings.HasSuffix(mark, string(address))) {
		return leftVolume{}, false // a pool's directory holds other things
	}
	v := leftVolume{address: address, provider: "dir", place: path,
		spec: spec.Volume{Container: id, Name: name, Path: path, MountPoint: "/" + name, Mode: 0o700}}
	if mounts, err := a.host.ReadFile("/proc/self/mountinfo"); m.Inode == subvolumeInode && err == nil &&
		backendAt(string(mounts), path) == "btrfs" { // a pool may be on another file system than the root
		v.provider = "btrfs"
	}
	return v, m.Mode.IsDir()
}

const subvolumeInode = 256 // of every subvolume's top (BTRFS_FIRST_FREE_OBJECTID)

// leftOnProxmox is a volume of one of Proxmox's storages.
func (a *app) leftOnProxmox(h *house, id, name, volume string) leftVolume {
	pool, _, _ := strings.Cut(volume, ":")
	return leftVolume{address: object.NewAddress(spec.KindVolume, id, name), provider: "pve", place: volume,
		spec: spec.Volume{
			Container: id, Name: name, Pool: pool, Path: filepath.Join(h.machine.Root, "volumes", id, name),
			MountPoint: "/phoenix/kept/" + name,
			SizeBytes:  1 << 30, Mode: 0o700, Proxmox: h.machine.Proxmox}}
}

const keptWords = ": kept, not in the configuration any more"

// tellLeft names them.
func (s *session) tellLeft() {
	for _, d := range s.diags {
		if strings.HasSuffix(d.Summary, keptWords) {
			fmt.Fprintf(s.stderr, "note: %s (%s)\n", d.Summary, d.Detail)
		}
		if strings.HasSuffix(d.Summary, copyWords) {
			fmt.Fprintf(s.stderr, "warning: %s\n  hint: %s\n", d.Summary, d.Hint)
		}
	}
}

// namesIn are the names in a directory; none where it cannot be looked at.
func (a *app) namesIn(dir string) []string {
	names, err := a.host.ReadDir(dir)
	if err != nil {
		return nil
	}
	return names
}
