package pve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// attached is a volume of a storage that a container's file names: mounted, unused, or in a snapshot.
type attached struct {
	key, name, target string
}

// volumes are those of all sections but the root file system's, each once. A directory of the hypervisor is none.
func (c *conf) volumes() (out []attached) {
	for i := range c.sections {
		s := &c.sections[i]
		for _, key := range s.keys() {
			p := parseProperty(s.get(key), "volume")
			if key != "rootfs" && !mountKey.MatchString(key) && !unusedKey.MatchString(key) || filepath.IsAbs(p.word) ||
				p.word == "" {
				continue
			}
			if !slices.ContainsFunc(out, func(a attached) bool { return a.name == p.word }) {
				out = append(out, attached{key, p.word, p.of["mp"]})
			}
		}
	}
	return out
}

// dropVolumes takes every volume out of the file.
func (c *conf) dropVolumes() bool {
	var names []string
	for _, v := range c.volumes() {
		names = append(names, v.name)
	}
	changed := takeOut(c, names)
	if c.current().get("rootfs") != "" {
		c.drop("rootfs")
		changed = true
	}
	return changed
}

// keptVolume is a volume of phoenix's by its record, wherever that stands.
type keptVolume struct {
	Name string
	record
}

var recordLine = regexp.MustCompile(`^phoenix: volume/(\d+)/([A-Za-z0-9][A-Za-z0-9._-]*) (\S+) (\S+)(?: (.*))?$`)

// parseKept reads a record without knowing which volume it is about.
func parseKept(id, text string) (keptVolume, bool) {
	m := recordLine.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil || m[1] != id {
		return keptVolume{}, false
	}
	return keptVolume{Name: m[2], record: record{Volume: m[3], Path: m[4], Set: m[5]}}, true
}

// records are those in the notes.
func (c *conf) records(id string) (out []keptVolume) {
	for _, n := range c.current().description() {
		if k, ok := parseKept(id, n); ok {
			out = append(out, k)
		}
	}
	return out
}

// keptRecords are the volumes that wait for a container, also those that its configuration does not name any more.
func keptRecords(h host.Host, s spec.Container) (out []keptVolume, err error) {
	dirs := []string{}
	if s.Guest.Records != "" {
		dirs = append(dirs, s.Guest.Records)
	}
	for _, v := range s.Guest.Volumes {
		if dir := parentOf(v.Path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return recordsIn(h, s.ID, dirs...)
}

// recordsIn are the volumes of a container that the files in some directories speak of.
func recordsIn(h host.Host, id string, dirs ...string) (out []keptVolume, err error) {
	for _, dir := range dirs {
		names, err := h.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if m, err := h.Lstat(filepath.Join(dir, name)); err != nil || !m.Mode.IsRegular() {
				continue
			}
			raw, err := h.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			if k, ok := parseKept(id, string(raw)); ok {
				out = append(out, k)
			}
		}
	}
	return out, nil
}

// foreignVolumes are those that pct destroy would free and that are neither phoenix's nor the root file system.
func foreignVolumes(c *conf, s spec.Container, kept []string) (out []attached) {
	root := parseProperty(c.current().get("rootfs"), "volume").word
	for _, v := range c.volumes() {
		if v.name != root && !slices.Contains(kept, v.name) && v.key != "rootfs" && belongsTo(v.name, s.ID) {
			out = append(out, v)
		}
	}
	return out
}

// belongsTo tells what Proxmox takes for the volume of a container, by its name: what is another's it leaves alone.
func belongsTo(volume, id string) bool {
	return regexp.MustCompile(`(^|[:/])(subvol|vm|basevol|base)-` + id + `-`).MatchString(volume)
}

// refuseForeign fails, before anything is touched, where volumes would be destroyed that somebody else made.
func refuseForeign(id string, foreign []attached) error {
	if len(foreign) == 0 {
		return nil
	}
	var names, ways []string
	for _, v := range foreign {
		what := v.key + " " + v.name
		if v.target != "" {
			what += " at " + v.target
		}
		names = append(names, what)
		if mountKey.MatchString(v.key) {
			ways = append(ways, fmt.Sprintf("pct move-volume %s %s --target-vmid OTHER --target-volume %s", id, v.key,
				v.key))
		} else {
			ways = append(ways, fmt.Sprintf("pct move-volume %s %s --target-vmid OTHER", id, v.key))
		}
	}
	return provider.PermanentHint(
		fmt.Errorf("container %s has volumes that phoenix did not make, and Proxmox would destroy them with it: %s: "+
			"nothing was changed", id, strings.Join(names, "; ")),
		"keep them in another container: "+strings.Join(ways, "; ")+"; or destroy what is on them first: pct set "+id+
			" --delete KEY, then pct set "+id+" --delete unusedN")
}

// detach writes down which volumes are phoenix's, and takes them out of the file, where destroy would find them: those
// of the configuration, and those that it does not name any more.
func (Container) detach(ctx context.Context, h host.Host, s spec.Container, c *conf) error {
	p := s.Guest.Proxmox
	keep, err := toKeep(ctx, h, s, c)
	if err != nil || len(keep) == 0 {
		return err
	}
	var names []string
	for path, k := range keep {
		names = append(names, k.Volume)
		if err := h.MkdirAll(parentOf(path), 0o700, host.Root); err != nil {
			return err
		}
		line := k.line(spec.Volume{Container: s.ID, Name: k.Name}) + "\n"
		if old, err := h.ReadFile(path); err == nil && string(old) == line {
			continue
		}
		if err := h.WriteFile(path, []byte(line), 0o600, host.Root); err != nil {
			return err
		}
	}
	if len(c.snapshots()) > 0 {
		if err := dropSnapshots(ctx, h, s.ID, c); err != nil {
			return err
		}
	}
	return edit(ctx, h, p, s.ID, func(c *conf) bool { return takeOut(c, names) })
}

// toKeep are phoenix's volumes that are there, by the file that their record goes to.
func toKeep(ctx context.Context, h host.Host, s spec.Container, c *conf) (map[string]keptVolume, error) {
	out := map[string]keptVolume{}
	for _, v := range s.Guest.Volumes {
		r, ok := c.recorded(v)
		if !ok {
			var err error
			if r, ok, err = found(ctx, h, c, v); err != nil {
				return nil, err
			}
		}
		if ok && (present(h, r.Path) || c.names(r.Volume)) {
			out[v.Path] = keptVolume{Name: v.Name, record: r}
		}
	}
	for _, k := range c.records(s.ID) {
		wanted := slices.ContainsFunc(s.Guest.Volumes, func(v spec.Volume) bool { return v.Name == k.Name })
		if !wanted && s.Guest.Records != "" && (present(h, k.Path) || c.names(k.Volume)) {
			out[filepath.Join(s.Guest.Records, k.Name)] = k
		}
	}
	return out, nil
}
