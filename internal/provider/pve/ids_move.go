package pve

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// mountedLock is how Proxmox locks a container whose file systems are mounted on the hypervisor. While files are moved
// nobody may start it, least of all Proxmox after a power cut: what it wrote then would be of the former range.
const mountedLock = "mounted"

// place is a volume of a container that is to be walked.
type place struct {
	volume, key, target, path string
	image                     bool // only Proxmox knows how to mount it
}

// moveIDs brings a stopped container into its range: a note that says so and a lock, a walk through its volumes, the
// lines in its file. Whoever is killed on the way goes on from there.
func moveIDs(ctx context.Context, h host.Host, s spec.IDRange) error {
	p := *s.Proxmox
	if err := provider.ProxmoxWritable(h, p); err != nil {
		return err
	}
	c, err := read(h, p, s.ID)
	if err != nil || c == nil {
		return err
	}
	if err := c.movable(s); err != nil {
		return err
	}
	places, err := walked(ctx, h, c, s.ID)
	if err != nil {
		return err
	}
	if c, err = unmountLeft(ctx, h, s, c); err != nil {
		return err
	}
	if err := c.unlockedForMove(s.ID); err != nil {
		return err
	}
	m := c.moving(s)
	mounts := slices.ContainsFunc(places, func(x place) bool { return x.image })
	err = edit(ctx, h, p, s.ID, func(c *conf) bool {
		before := c.text()
		c.noteMove(s.ID, m.Note(s.ID))
		if !mounts { // else Proxmox locks it
			c.put("lock", mountedLock)
		}
		return c.text() != before
	})
	if err != nil {
		return err
	}
	if err := walkAll(ctx, h, s, places, m.From, mounts); err != nil {
		return err
	}
	if err := provider.WalkBinds(ctx, h, s, m.From); err != nil {
		return err
	}
	return edit(ctx, h, p, s.ID, func(c *conf) bool {
		c.noteMove(s.ID, "")
		c.setIDs(s.IDMap)
		if c.current().get("lock") == mountedLock {
			c.drop("lock")
		}
		return true
	})
}

// moving is from where files are moved: the range that the container has, those from which they were being moved, and
// the one that Proxmox makes containers in. One start with other lines leaves files of another range behind.
func (c *conf) moving(s spec.IDRange) idrange.Moving {
	own := c.ids(s.ID)
	m := idrange.Moving{To: s.IDMap}
	for _, f := range append([]spec.IDMap{own.IDMap, own.Moving.To, idrange.Shared}, own.Moving.From...) {
		overlaps := func(o spec.IDMap) bool { return idrange.Overlaps(o, f) }
		if f.Count > 0 && f.Count <= s.IDMap.Count && !overlaps(s.IDMap) && !slices.ContainsFunc(m.From, overlaps) {
			m.From = append(m.From, f)
		}
	}
	return m
}

// unmountLeft unmounts what a killed move left mounted, which also ends the lock.
func unmountLeft(ctx context.Context, h host.Host, s spec.IDRange, c *conf) (*conf, error) {
	if !c.ids(s.ID).IsMoving() || c.current().get("lock") != mountedLock {
		return c, nil
	}
	if _, err := pct(ctx, h, s.ID, callLimit, "unmount", s.ID); err != nil {
		return c, err
	}
	c, err := read(h, *s.Proxmox, s.ID)
	if err == nil && c == nil {
		err = fmt.Errorf("container %s is gone", s.ID)
	}
	return c, err
}

// unlockedForMove fails while something else is at work on the container.
func (c *conf) unlockedForMove(id string) error {
	if lock := c.current().get("lock"); lock != "" {
		return lockedError(id, lock, nil)
	}
	return nil
}

// walked are the volumes of a container that belong to it by their names. One that has a map of its own (idmap=) has
// the ids of that on it, whatever the container's are.
func walked(ctx context.Context, h host.Host, c *conf, id string) (out []place, err error) {
	known := map[string]string{}
	for _, k := range c.records(id) {
		known[k.Volume] = k.Path
	}
	s := c.current()
	for _, key := range s.keys() {
		v := parseProperty(s.get(key), "volume")
		volume := key == "rootfs" || mountKey.MatchString(key) || unusedKey.MatchString(key)
		if !volume || filepath.IsAbs(v.word) || v.of["idmap"] != "" || !belongsTo(v.word, id) {
			continue
		}
		x := place{volume: v.word, key: key, target: filepath.Clean("/" + v.of["mp"]), path: known[v.word]}
		if x.path == "" {
			if x.path, err = volumePath(ctx, h, id, v.word); err != nil {
				return nil, err
			}
		}
		m, err := h.Lstat(x.path)
		x.image = err != nil || !m.Mode.IsDir()
		if x.image && unusedKey.MatchString(key) {
			continue // nothing mounts it
		}
		out = append(out, x)
	}
	return out, nil
}

// walkAll walks the volumes, those that are images where Proxmox mounts them. The directory of an image that a volume
// is mounted on keeps its owner: nobody sees it.
func walkAll(
	ctx context.Context, h host.Host, s spec.IDRange, places []place, from []spec.IDMap, mounts bool,
) (err error) {
	root := filepath.Join(s.Proxmox.State, s.ID, "rootfs")
	if mounts {
		if _, err := pct(ctx, h, s.ID, callLimit, "mount", s.ID); err != nil {
			return err
		}
		defer func() {
			_, away := pct(context.WithoutCancel(ctx), h, s.ID, callLimit, "unmount", s.ID)
			err = errors.Join(err, away)
		}()
	}
	for _, x := range places {
		dir := x.path
		if x.image {
			dir = filepath.Join(root, x.target)
			argv := []string{"sh", "-c", isMountedScript, "sh", root, x.target}
			if _, err := h.Run(ctx, host.Command{Argv: argv}); err != nil {
				return fmt.Errorf("%s of container %s is not mounted where it should be: %w", x.key, s.ID, err)
			}
		}
		if err := provider.WalkOwn(ctx, h, dir, s.IDMap, from); err != nil {
			return err
		}
	}
	return nil
}

// isMountedScript fails unless something is mounted at $1$2, and no link leads away from there.
const isMountedScript = `set -e
at=$(realpath -- "$1$2")
top=$(realpath -- "$1")
[ "${at%/}" = "$top${2%/}" ] || { echo "$2 leads elsewhere over a link" >&2; exit 1; }
mountpoint --quiet "$at"`

// noteMove puts the note of a move in the place of an older one; empty: there is none any more.
func (c *conf) noteMove(id, note string) {
	notes := slices.DeleteFunc(c.current().description(), func(n string) bool {
		_, is := idrange.MovingOf(id, n)
		return is
	})
	if note != "" {
		notes = append(notes, note)
	}
	if !slices.Equal(notes, c.current().description()) {
		c.setDescription(notes)
	}
}

const idMapKey = "lxc.idmap"

// setIDs puts the lines for a range in the place of those that are there. The range that Proxmox makes containers in
// has none.
func (c *conf) setIDs(m spec.IDMap) {
	options := slices.DeleteFunc(c.current().options(), func(l line) bool { return l.key == idMapKey })
	if m != idrange.Shared {
		for _, kind := range []string{"u", "g"} {
			options = append(options, line{key: idMapKey, value: fmt.Sprintf("%s 0 %d %d", kind, m.Base, m.Count)})
		}
	}
	c.setOptions(options)
}

// put sets a plain key of the present state, in the order in which Proxmox has them.
func (c *conf) put(key, value string) {
	s := c.current()
	c.drop(key)
	at := 0
	for i, l := range s.lines {
		if l.comment || l.key != "" && !l.raw() && l.key < key {
			at = i + 1
		}
	}
	if at > 0 && s.lines[at-1].text[len(s.lines[at-1].text)-1] != '\n' {
		s.lines[at-1].text += "\n"
	}
	s.lines = slices.Insert(s.lines, at, line{text: key + ": " + value + "\n", key: key, value: value})
}

// movable fails where nobody can tell from which id to which.
func (c *conf) movable(s spec.IDRange) error {
	if own := c.ids(s.ID); !own.Odd || own.IsMoving() {
		return nil
	}
	return provider.PermanentHint(
		fmt.Errorf("container %s maps its ids in parts, by lxc.idmap lines that phoenix did not write: they are "+
			"left alone", s.ID),
		"take the lines out of "+confPath(*s.Proxmox, s.ID)+" and give the files their old owners, or take the "+
			"container "+
			"out of the configuration")
}

// giveIDs moves a container that was just made, or left half moved, into the range that it is to have.
func giveIDs(ctx context.Context, h host.Host, s spec.Container) error {
	p := s.Guest.Proxmox
	if s.IDMap == (spec.IDMap{}) {
		return nil
	}
	c, err := read(h, p, s.ID)
	if err != nil || c == nil {
		return err
	}
	if own := c.ids(s.ID); own.Has() == (spec.IDMap{}) || own.IDMap == s.IDMap && !own.IsMoving() {
		return nil
	}
	return moveIDs(ctx, h, movesIDs(s))
}

// ownIDLines are the lines that map a container's ids, as they are.
func (c *conf) ownIDLines(s spec.Container) (out []line) {
	if s.IDMap == (spec.IDMap{}) {
		return nil
	}
	return slices.DeleteFunc(c.current().options(), func(l line) bool { return l.key != idMapKey })
}

// movesIDs is the range of a container as its own driver knows it.
func movesIDs(s spec.Container) spec.IDRange {
	return spec.IDRange{ID: s.ID, IDMap: s.IDMap, Proxmox: &s.Guest.Proxmox}
}
