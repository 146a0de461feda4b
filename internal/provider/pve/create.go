package pve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// create makes a container that does not exist. Its notes say from the first moment whose it is.
func create(ctx context.Context, h host.Host, s spec.Container) error {
	if s.Guest.CloneFrom != "" {
		return clone(ctx, h, s)
	}
	if s.Guest.Archive == "" {
		return provider.PermanentHint(fmt.Errorf("container %s has no archive to be made from", s.ID),
			"pveam available lists those that can be had, pveam download gets one")
	}
	if err := beginMaking(ctx, h, s); err != nil {
		return err
	}
	argv := []string{"create", s.ID, s.Guest.Archive, "--description", mark(s.ID), "--unprivileged",
		flag(s.IDMap != (spec.IDMap{})),
		"--rootfs", s.Guest.Storage + ":" + strconv.Itoa(s.Guest.SizeGB)}
	// A volume that waits for its container is mounted afterwards: the archive must not be unpacked over what is on it.
	known := map[string]record{}
	var fresh []spec.Volume
	for _, v := range s.Guest.Volumes {
		if _, waits := remembered(h, nil, v); !waits {
			fresh = append(fresh, v)
		}
	}
	s.Guest = withVolumes(s.Guest, fresh)
	set, _ := arguments(settings(s, parseConf(""), known))
	pool, err := poolOf(h, s)
	if err != nil {
		return err
	}
	_, err = pct(ctx, h, s.ID, cloneLimit, slices.Concat(argv, pool, set)...)
	return err
}

func withVolumes(g *spec.Guest, volumes []spec.Volume) *spec.Guest {
	other := *g
	other.Volumes = volumes
	return &other
}

// clone copies the source, one copy at a time: the source is locked for all of it.
func clone(ctx context.Context, h host.Host, s spec.Container) error {
	p, source := s.Guest.Proxmox, s.Guest.CloneFrom
	c, err := look(h, p, source)
	if err != nil {
		return err
	}
	if c == nil {
		return provider.PermanentHint(fmt.Errorf("container %s has nothing to be cloned from: there is no container "+
			"%s on this node", s.ID, source),
			"phoenix create "+source)
	}
	if err := unlockSource(ctx, h, p, source, c); err != nil {
		return err
	}
	if err := copyable(ctx, h, p, source); err != nil {
		return err
	}
	if err := beginMaking(ctx, h, s); err != nil {
		return err
	}
	pool, err := poolOf(h, s)
	if err != nil {
		return err
	}
	argv := append([]string{"pct", "clone", source, s.ID, "--hostname", s.Name, "--description", mark(s.ID)}, pool...)
	if c.current().get("template") != "1" {
		argv = append(argv, "--full", "1", "--storage", s.Guest.Storage)
		if s.Guest.Snapshot != "" {
			if c.section(s.Guest.Snapshot) == nil {
				return provider.PermanentHint(fmt.Errorf("container %s has no snapshot %s to be cloned from", source,
					s.Guest.Snapshot),
					fmt.Sprintf("phoenix create %s, or: pct snapshot %[1]s %s", source, s.Guest.Snapshot))
			}
			argv = append(argv, "--snapname", s.Guest.Snapshot)
		}
	}
	res, err := oneByOne(ctx, h, p, source, argv...)
	if says(res, lockSaying) {
		return explain(source, res, err)
	}
	return judged(s.ID, res, err)
}

const (
	// seconds that a turn is waited for before it is looked whether somebody asks for the end of the work
	turnLimit = "5"
	turnTaken = 75 // the code then; pct's own mean nothing
)

// oneByOne runs pct about the source of copies once no other phoenix copies it. The wait ends when the work is to end;
// what was begun comes to its end.
func oneByOne(ctx context.Context, h host.Host, p spec.Proxmox, source string, argv ...string) (host.Result, error) {
	stoppable, end := provider.Stoppable(ctx)
	defer end()
	argv = append([]string{"flock", "--exclusive", "--no-fork", "--timeout", turnLimit, "--conflict-exit-code",
		strconv.Itoa(turnTaken), cloneLock(p, source)}, argv...)
	for limit := time.Now().Add(cloneLimit); ; {
		res, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true, Aside: true, Limit: cloneLimit})
		if res.Code != turnTaken || len(res.Stderr)+len(res.Stdout) > 0 {
			return res, err
		}
		if stoppable.Err() != nil {
			return res, fmt.Errorf("another copy of container %s is not waited for: %w", source,
				context.Cause(stoppable))
		}
		if time.Now().After(limit) {
			return res, fmt.Errorf("another copy of container %s has not ended within %s: %w", source, cloneLimit, err)
		}
	}
}

// copyable fails where something else than a phoenix's copy is at work on a source: Proxmox would refuse, and write
// down one more failed task with every try.
func copyable(ctx context.Context, h host.Host, p spec.Proxmox, source string) error {
	for range 3 { // a copy may end, and another begin, between two looks
		c, err := look(h, p, source)
		if c == nil || err != nil {
			return err
		}
		switch lock := c.current().get("lock"); lock {
		case "":
			return nil
		case "disk":
			free, err := h.Run(ctx,
				host.Command{Argv: []string{"flock", "--shared", "--nonblock", cloneLock(p, source), "true"}})
			if err != nil && free.Code > 0 {
				return nil // it waits for its turn
			}
			if err != nil {
				return err
			}
		default:
			return lockedError(source, lock, nil)
		}
	}
	return lockedError(source, "disk", nil)
}

// unlockSource takes the lock away that a killed copy left on a source of phoenix's.
func unlockSource(ctx context.Context, h host.Host, p spec.Proxmox, source string, c *conf) error {
	if !c.marked(source) || !stuck(h, source, c) {
		return nil // or it waits for its turn
	}
	res, err := oneByOne(ctx, h, p, source, "pct", "unlock", source)
	if err != nil && strings.Contains(string(res.Stderr), "no lock found") {
		return nil
	}
	return explain(source, res, err)
}

// stuck tells that a container is locked as the source of a clone that nobody makes any more.
func stuck(h host.Host, source string, c *conf) bool {
	if c.current().get("lock") != "disk" {
		return false
	}
	pid, _ := process(h, atWork(source))
	return pid == ""
}

// atWork is what a process looks like that does something to a container: a worker of Proxmox's, or pct itself.
func atWork(id string) *regexp.Regexp {
	return regexp.MustCompile(`^task UPID:([^:]*:){5}` + id + `:|\bpct [a-z-]+ ` + id + `\b`)
}

// making is what a process looks like that makes a container. The worker of a clone only tells what it copies.
func making(id string) *regexp.Regexp {
	return regexp.MustCompile(`^task UPID:([^:]*:){4}(vz(create|restore):` + id +
		`|vzclone:\d+):|\bpct (create|restore|clone \d+) ` + id + `\b`)
}

func busyError(id, pid, what string) error {
	return fmt.Errorf("container %s is being made by process %s: %s", id, pid, what)
}

// process finds one of the hypervisor's own by its command line; empty: there is none. What runs inside a container can
// be called anything, and is not asked.
func process(h host.Host, like *regexp.Regexp) (pid, line string) {
	names, err := h.ReadDir("/proc")
	if err != nil {
		return "", ""
	}
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		raw, err := h.ReadFile("/proc/" + name + "/cmdline")
		line := strings.ReplaceAll(strings.TrimRight(string(raw), "\x00"), "\x00", " ")
		if err == nil && like.MatchString(line) && here(h, name) {
			return name, line
		}
	}
	return "", ""
}

// here reports whether a process is in this one's own namespaces, or that cannot be told.
func here(h host.Host, pid string) bool {
	for _, ns := range []string{"pid", "net"} {
		own, err := h.Readlink("/proc/self/ns/" + ns)
		its, ierr := h.Readlink("/proc/" + pid + "/ns/" + ns)
		if err == nil && ierr == nil && own != its {
			return false
		}
	}
	return true
}

// destroy removes the container with all that its file names. Without quorum it would lose the disks and keep the file.
func destroy(ctx context.Context, h host.Host, s spec.Container, more ...string) error {
	if err := provider.ProxmoxWritable(h, s.Guest.Proxmox); err != nil {
		return err
	}
	_, err := pct(ctx, h, s.ID, callLimit, append([]string{"destroy", s.ID}, more...)...)
	return err
}

// Delete implements provider.Deleter: it stops the container and removes it with its root file system. Volumes of
// phoenix's are taken out of it before, and written down, so that a container that is made later finds them.
func (k Container) Delete(ctx context.Context, h host.Host, a object.Address, s spec.Container) error {
	nothing := func(context.Context, host.Host, spec.Container, *conf) error { return nil }
	if err := k.remove(ctx, h, a, s, nothing); err != nil {
		return err
	}
	return forgetReplaced(h, s.Guest.Proxmox, s.ID)
}

// remove is Delete. Once nothing is in the way, before is called with what is about to be destroyed.
func (k Container) remove(ctx context.Context, h host.Host, a object.Address, s spec.Container,
	before func(context.Context, host.Host, spec.Container, *conf) error) error {
	p := s.Guest.Proxmox
	c, err := read(h, p, s.ID)
	if err != nil {
		return err
	}
	if c == nil {
		return forgetMaking(ctx, h, s)
	}
	if err := provider.ProxmoxWritable(h, p); err != nil {
		return err
	}
	if c.half() {
		if err := repair(ctx, h, s); err != nil {
			return err
		}
		return endMaking(h, p, s.ID)
	}
	if c, err = unmountLeft(ctx, h, movesIDs(s), c); err != nil {
		return err
	}
	if c, err = release(ctx, h, p, s.ID, c); err != nil {
		return err
	}
	if err := checkForeign(ctx, h, s, c); err != nil {
		return err
	}
	if err := errors.Join(refuseProtected(c, s.ID), refuseAvailable(h, p, s.ID)); err != nil {
		return err
	}
	if err := (Running{}).Stop(ctx, h, a, spec.Running{ID: s.ID, Proxmox: &p}); err != nil {
		return err
	}
	if c, err = read(h, p, s.ID); err != nil || c == nil { // what waited for its end is in effect
		return err
	}
	if err := before(ctx, h, s, c); err != nil {
		return err
	}
	if err := k.detach(ctx, h, s, c); err != nil {
		return err
	}
	if err := destroy(ctx, h, s); err != nil {
		return err
	}
	if err := forgetStarted(h, p, s.ID); err != nil {
		return err
	}
	return endMaking(h, p, s.ID)
}

// Refuse implements provider.Refuser.
func (Container) Refuse(ctx context.Context, h host.Host, s spec.Container) error {
	c, err := read(h, s.Guest.Proxmox, s.ID)
	if c == nil || err != nil || c.half() {
		return err
	}
	return errors.Join(checkForeign(ctx, h, s, c), refuseProtected(c, s.ID), refuseAvailable(h, s.Guest.Proxmox, s.ID))
}

// checkForeign fails where the container has volumes of others, that would be lost with it.
func checkForeign(ctx context.Context, h host.Host, s spec.Container, c *conf) error {
	keep, err := toKeep(ctx, h, s, c)
	if err != nil {
		return err
	}
	var names []string
	for _, k := range keep {
		names = append(names, k.Volume)
	}
	return refuseForeign(s.ID, foreignVolumes(c, s, names))
}

// names tells whether the file speaks of a volume, mounted or unused.
func (c *conf) names(volume string) bool {
	return slices.ContainsFunc(c.current().lines, func(l line) bool {
		return (mountKey.MatchString(l.key) || unusedKey.MatchString(l.key)) &&
			parseProperty(l.value, "volume").word == volume
	})
}

// found is the record of a volume that is mounted and that the notes do not speak of yet.
func found(ctx context.Context, h host.Host, c *conf, v spec.Volume) (record, bool, error) {
	key, have := c.mountedNow(v.MountPoint)
	if key == "" {
		return record{}, false, nil
	}
	path, err := volumePath(ctx, h, v.Container, have.word)
	return record{Volume: have.word, Path: path}, err == nil, err
}

// dropSnapshots removes them, newest first: they hold on to the volumes, and would go with them.
func dropSnapshots(ctx context.Context, h host.Host, id string, c *conf) error {
	left := c.snapshots()
	for name := c.current().get("parent"); len(left) > 0; {
		s := c.section(name)
		if s == nil || name == pending {
			name = left[0]
			s = c.section(name)
		}
		if _, err := pct(ctx, h, id, callLimit, "delsnapshot", id, name); err != nil {
			return err
		}
		left = without(left, name)
		name = s.get("parent")
	}
	return nil
}

func without(list []string, name string) []string {
	var out []string
	for _, x := range list {
		if x != name {
			out = append(out, x)
		}
	}
	return out
}

// takeOut removes every line that names one of the volumes.
func takeOut(c *conf, volumes []string) bool {
	changed := false
	for i := range c.sections {
		s := &c.sections[i]
		var kept []line
		for _, l := range s.lines {
			named := false
			for _, v := range volumes {
				named = named || (mountKey.MatchString(l.key) || unusedKey.MatchString(l.key)) &&
					parseProperty(l.value, "volume").word == v
			}
			if named {
				changed = true
				continue
			}
			kept = append(kept, l)
		}
		s.lines = kept
	}
	return changed
}

// forget removes what was written down about a volume that waited for its container.
func forget(h host.Host, v spec.Volume) error {
	if err := h.Remove(v.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if left, err := h.ReadDir(parentOf(v.Path)); err == nil && len(left) == 0 {
		return h.Remove(parentOf(v.Path))
	}
	return nil
}
