package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Scene is what there is to look at on the hypervisor.
type Scene struct {
	Root        string   // where phoenix keeps what it owns; its volumes are looked at from inside
	Directories []string // of lxc's containers (lxcpath)
	Proxmox     string   // directory of Proxmox's definitions
	Scripts     []string // files and directories with the users' scripts and units
	Wanted      []Wanted // what the configuration asks for
}

// Wanted is one container of the configuration.
type Wanted struct {
	ID           string
	Unprivileged bool
	Template     bool              // others are cloned from it, and it never runs
	Binds        map[string]string // directories of the hypervisor, by where they are mounted
	Shares       []string          // those of Binds that other containers see too, on purpose
	Options      []string          // key=value, of raw options that the file's audit has looked at
	Bridge, Port string            // of its interface; the port is the hypervisor's end, where phoenix names it
}

// System looks at the hypervisor.
func System(ctx context.Context, h host.Host, scene Scene) Seen {
	s := system{Seen: Seen{Audit: true}, h: h, scene: scene, all: definitions(h, scene)}
	s.shared(ctx)
	s.weak()
	s.frames()
	s.bridges(ctx)
	s.ids()
	s.directories()
	s.processes()
	s.join(Scripts(h, Hypervisor, scene.Scripts...))
	return s.Seen
}

type system struct {
	Seen
	h     host.Host
	scene Scene
	all   []definition
	told  map[[2]string]bool // pairs of containers
}

// view is a directory that one container sees or is to see.
type view struct {
	container, path, real string
	meta                  host.Meta
	from                  string // the file that says so; empty: the users' configuration
}

// views are the directories of all containers as they are on this system, each once.
func (s *system) views() []view {
	var out []view
	add := func(v view) {
		real, err := host.Follow(s.h, v.path)
		if err != nil {
			return // it does not exist here: nobody sees it
		}
		v.real = real
		if v.meta, err = s.h.Lstat(real); err != nil ||
			slices.ContainsFunc(out, func(o view) bool { return o.container == v.container && o.real == v.real }) {
			return
		}
		out = append(out, v)
	}
	for _, d := range s.all {
		for _, b := range d.binds {
			add(view{container: d.id, path: b.source, from: d.file})
		}
	}
	for _, w := range s.scene.Wanted {
		for _, target := range sortedKeys(w.Binds) {
			add(view{container: w.ID, path: path.Clean(w.Binds[target])})
		}
	}
	return out
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// shared compares what containers see: by path, by link, by a parent, by inode, and by what is mounted now.
func (s *system) shared(ctx context.Context) {
	s.told = map[[2]string]bool{}
	all := s.views()
	for i, v := range all {
		for _, first := range all[:i] {
			if v.container == first.container {
				continue
			}
			how := alike(v, first)
			plain := v.from == "" && first.from == "" && (within(v.path, first.path) || within(first.path, v.path))
			if how == "" || plain || s.share(v) && s.share(first) { // the file's own audit tells what is plain
				continue
			}
			s.told[[2]string{first.container, v.container}] = true
			s.add(ruleSeenTwice, "container/"+v.container, unmount(v, first),
				"%s of container %s is %s, %s of container %s", v.path, v.container, how, first.path, first.container)
		}
	}
	s.mounted(ctx)
}

// share is whether a container has a directory by a mount point that says that others may see it.
func (s *system) share(v view) bool {
	return slices.ContainsFunc(s.scene.Wanted, func(w Wanted) bool {
		return w.ID == v.container && slices.ContainsFunc(w.Shares, func(dir string) bool {
			return within(v.path, dir)
		})
	})
}

// shareAt is share for where something is mounted inside.
func (s *system) shareAt(id, target string) bool {
	return slices.ContainsFunc(s.scene.Wanted, func(w Wanted) bool {
		if w.ID != id {
			return false
		}
		for at, source := range w.Binds {
			if within(target, at) && slices.Contains(w.Shares, source) {
				return true
			}
		}
		return false
	})
}

func unmount(v, first view) string {
	where := v.from
	if where == "" {
		where = "the configuration"
	}
	return "phoenix migrate, or remove the mount from " + where + " and restart container " + v.container +
		"; what it needs of container " + first.container + " it gets over the network"
}

// alike says how two directories are the same one; empty: they are not.
func alike(a, b view) string {
	switch {
	case a.real == b.real && a.path == b.path:
		return "the same directory"
	case a.real == b.real:
		return "the same directory by a link"
	case a.meta.Inode != 0 && a.meta.Inode == b.meta.Inode && a.meta.Device == b.meta.Device:
		return "the same directory on disk"
	case within(a.real, b.real):
		return "inside of"
	case within(b.real, a.real):
		return "around"
	}
	return ""
}

// mounted compares what is mounted in running containers.
func (s *system) mounted(ctx context.Context) {
	type seen struct {
		id string
		mount
	}
	var all []seen
	for _, d := range s.all {
		info, err := s.mountinfo(ctx, d)
		if err != nil {
			s.Unseen = append(s.Unseen, Unseen{"container/" + d.id, "its mounts cannot be read: " + err.Error()})
			continue
		}
		own := mounts(info)
		for i, m := range own {
			if j := slices.IndexFunc(own[:i],
				func(o mount) bool { return o.device == m.device && o.root == m.root }); j >= 0 {
				s.add(ruleMountedTwice, "container/"+d.id, "remove one of the two mounts",
					"%s and %s are one directory", own[j].target, m.target)
			}
			all = append(all, seen{d.id, m})
		}
	}
	for i, v := range all {
		for _, first := range all[:i] {
			pair := [2]string{first.id, v.id}
			if v.id == first.id || v.device != first.device || !within(v.root, first.root) &&
				!within(first.root, v.root) || s.told[pair] || s.shareAt(v.id, v.target) &&
				s.shareAt(first.id, first.target) {
				continue
			}
			s.told[pair] = true
			s.add(ruleSeenTwice, "container/"+v.id, fmt.Sprintf("umount it, remove it from the definition, and "+
				"restart container %s", v.id),
				"%s in container %s shows what container %s sees at %s (device %s, %s)", v.target, v.id, first.id,
				first.target, v.device, v.root)
		}
	}
}

// mountinfo is that of a container's first process; empty where it does not run.
func (s *system) mountinfo(ctx context.Context, d definition) (string, error) {
	res, err := s.h.Run(ctx, host.Command{Argv: []string{"lxc-info", "-P", d.directory, "-n", d.id, "-p", "-H"}})
	pid := strings.TrimSpace(string(res.Stdout))
	if err != nil || pid == "" || pid == "-1" {
		var run *host.RunError
		if errors.As(err, &run) && run.Code > 0 {
			return "", nil // it is only defined
		}
		return "", err
	}
	b, err := s.h.ReadFile("/proc/" + pid + "/mountinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// weak tells what weakens a container on the system and is not in the configuration.
func (s *system) weak() {
	for _, d := range s.all {
		i := slices.IndexFunc(s.scene.Wanted, func(w Wanted) bool { return w.ID == d.id })
		var said Wanted
		if i >= 0 {
			said = s.scene.Wanted[i]
		}
		if d.privileged && (i < 0 || said.Unprivileged) {
			s.add(ruleWeak, "container/"+d.id, "make it again, unprivileged",
				"container %s is privileged: root in it is root on the hypervisor (%s)", d.id, d.file)
		}
		for _, w := range d.weak {
			if !slices.Contains(said.Options, w.option) {
				s.add(ruleWeak, "container/"+d.id, "remove the line from "+d.file+" and restart the container",
					"%s: %s", w.option, w.why)
			}
		}
	}
}

// definition is the container that a directory is looked at for.
func (s *system) definition(id string) definition {
	for _, d := range s.all {
		if d.id == id {
			return d
		}
	}
	for _, w := range s.scene.Wanted {
		if w.ID == id && w.Unprivileged {
			return definition{id: id, base: usualBase, ids: usualIDs}
		}
	}
	return definition{id: id, privileged: true}
}

// directories looks at what containers see of the hypervisor's directories; by names only, nothing is read. Volumes
// that phoenix made are looked at from inside of their containers.
func (s *system) directories() {
	var done []string
	for _, v := range s.views() {
		if s.scene.Root != "" && within(v.real, s.scene.Root) ||
			slices.ContainsFunc(done, func(d string) bool { return within(v.real, d) }) {
			continue
		}
		done = append(done, v.real)
		d := s.definition(v.container)
		var open, writable, strange tally
		whole, err := walk(s.h, v.real, func(f file) {
			why := readable(f)
			switch {
			case f.meta.Mode.IsDir() && f.open && f.meta.Mode.Perm()&0o002 != 0 && f.meta.Mode&fs.ModeSticky == 0:
				writable.add(f.path + " is " + shown(f.meta))
			case f.meta.Mode.IsRegular() && why != "" && secretName(f.path) != "":
				open.add(secretName(f.path) + ", " + f.path + ", is " + shown(f.meta))
			}
			if d.outside(f.meta.UID) || d.outside(f.meta.GID) {
				strange.add(f.path + " is " + shown(f.meta))
			}
		})
		if err != nil || !whole {
			s.Unseen = append(s.Unseen, Unseen{v.real, "not all of it could be looked at"})
		}
		if open.n > 0 {
			s.add(ruleOpenOutside, "container/"+v.container, "chmod -R go-rwx "+host.Quote([]string{v.real})+
				"; what could be read counts as leaked: phoenix ca rotate --yes makes it anew", "%s", open.String())
		}
		if writable.n > 0 {
			s.add(ruleWritable, "container/"+v.container, "chmod -R o-w "+host.Quote([]string{v.real}), "%s",
				writable.String())
		}
		if strange.n > 0 {
			s.add(ruleNobody, "container/"+v.container,
				fmt.Sprintf("chown -R %d:%d %s, or a volume of zfs_volumes in its place", d.base, d.base,
					host.Quote([]string{v.real})), "%s", strange.String())
		}
	}
}

// tally shows the first of many.
type tally struct {
	n     int
	first []string
}

func (t *tally) add(s string) {
	if t.n++; t.n <= 3 {
		t.first = append(t.first, s)
	}
}

func (t *tally) String() string {
	out := strings.Join(t.first, "; ")
	if more := t.n - len(t.first); more > 0 {
		out += fmt.Sprintf("; and %d more", more)
	}
	return out
}
