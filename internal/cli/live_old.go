package cli

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// moving is what a command that moves a running system knows besides the configuration.
type moving struct {
	from string // lxcpath that the old containers are in
}

// importDirectory is where a CA that was there before is handed to the one that is made of it: in memory, inside of its
// container.
const importDirectory = "/run/phoenix-import"

// observeTakeover looks for what was taken over from an older layout, or is about to be.
func (a *app) observeTakeover(cfg *config.Config, m *config.Machine) {
	j := journalIn(a.host, m.Root)
	m.Leaked = j.leaked()
	if a.moving != nil {
		m.Import = importDirectory
	}
	if m.Runtime != "lxc" {
		if shared := j.sharedPath(); shared != "" {
			m.Gone = []string{shared}
		}
		return
	}
	m.Homes = map[string]string{}
	homes := a.takenHomes(m.Root)
	for _, c := range cfg.Containers {
		if home := homes[c.ID]; home != "" {
			m.Homes[c.ID] = home
		} else if home := a.oldHome(m.Root, c.ID); home != "" {
			m.Homes[c.ID] = home
		}
	}
}

// takenHomes are the lxcpaths of containers that were taken over where they were: a link in phoenix's own directory
// leads there.
func (a *app) takenHomes(root string) map[string]string {
	own, out := filepath.Join(root, "lxc"), map[string]string{}
	names, err := a.host.ReadDir(own)
	if err != nil {
		return out
	}
	for _, id := range names {
		if target, err := a.host.Readlink(filepath.Join(own, id)); err == nil && filepath.IsAbs(target) &&
			filepath.Base(target) == id {
			out[id] = filepath.Dir(target)
		}
	}
	return out
}

// oldHome is the lxcpath of a container that stands elsewhere: one that carries phoenix's mark, whose link was lost,
// and while a system is moved any.
func (a *app) oldHome(root, id string) string {
	if a.exists(filepath.Join(root, "lxc", id)) {
		return ""
	}
	for _, from := range a.oldPlaces() {
		raw, err := a.host.ReadFile(filepath.Join(from, id, "config"))
		if err == nil && (a.moving != nil || marked(id, string(raw))) {
			return from
		}
	}
	return ""
}

func (a *app) oldPlaces() []string {
	if a.moving != nil && a.moving.from != "" {
		return []string{a.moving.from}
	}
	return []string{otherContainers}
}

func marked(id, config string) bool {
	first, _, _ := strings.Cut(config, "\n")
	return first == provider.ContainerMark(id)
}

// guest is a container of the old layout.
type guest struct {
	id, home string       // home is lxc's directory with its configuration
	file     string       // its configuration
	config   string       // as the old scripts left it
	mounts   []spec.Mount // in config
}

func (g guest) mark() string { return provider.ContainerMark(g.id) }

// oldHouse is the layout that is left behind, as the containers' definitions tell it.
type oldHouse struct {
	guests             []guest
	ca, gateway, proxy string   // ids; empty: none
	shared             string   // the directory that the CA shares
	sharedWith         []string // those that see it, the CA too
}

func (o *oldHouse) guest(id string) (guest, bool) {
	i := slices.IndexFunc(o.guests, func(g guest) bool { return g.id == id })
	if i < 0 {
		return guest{}, false
	}
	return o.guests[i], true
}

func (o *oldHouse) ids() []string {
	var out []string
	for _, g := range o.guests {
		out = append(out, g.id)
	}
	return out
}

// findOld reads the definitions of the old containers: from the journal where they were taken over before.
func (a *app) findOld(cfg *config.Config, m config.Machine, j journal) (*oldHouse, error) {
	o := &oldHouse{}
	templates := map[string]bool{}
	for _, c := range cfg.Containers {
		templates[c.CloneFrom] = true
	}
	for _, c := range cfg.Containers {
		if templates[c.ID] && c.CloneFrom == "" {
			continue
		}
		path := m.Homes[c.ID]
		if path == "" {
			path = filepath.Join(m.Root, "lxc")
		}
		g := guest{id: c.ID, home: filepath.Join(path, c.ID)}
		g.file = filepath.Join(g.home, "config")
		if m.Proxmox != nil {
			g.file = filepath.Join(m.Proxmox.Dir, "lxc", c.ID+".conf")
		}
		if err := a.readGuest(&g, j); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		switch {
		case g.config == "": // phoenix's own
			continue
		case c.IsCA():
			o.ca = c.ID
		case c.IsGateway():
			o.gateway = c.ID
		case c.IsProxy():
			o.proxy = c.ID
		}
		o.guests = append(o.guests, g)
	}
	return o, o.find()
}

func (a *app) readGuest(g *guest, j journal) error {
	raw, err := a.host.ReadFile(j.config(g.id))
	if errors.Is(err, fs.ErrNotExist) {
		if raw, err = a.host.ReadFile(g.file); err == nil &&
			(marked(g.id, string(raw)) || strings.Contains(string(raw), proxmoxWord)) {
			return nil
		}
	}
	if err == nil {
		g.config = string(raw)
		g.mounts = append(mountsIn(g.config, g.home), mountPointsIn(g.config)...)
	}
	return err
}

// proxmoxWord begins phoenix's lines in a container's notes, as Proxmox writes them.
const proxmoxWord = "phoenix%3A "

// mountPointsIn reads the directories of the hypervisor among Proxmox's mount points (pct.conf(5)).
func mountPointsIn(config string) []spec.Mount {
	var out []spec.Mount
	for line := range strings.Lines(config) {
		if strings.HasPrefix(line, "[") { // a snapshot's
			break
		}
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		parts := strings.Split(value, ",")
		if !ok || !strings.HasPrefix(key, "mp") || !filepath.IsAbs(parts[0]) {
			continue
		}
		for _, p := range parts[1:] {
			if target, ok := strings.CutPrefix(p, "mp="); ok {
				out = append(out, spec.Mount{Source: filepath.Clean(parts[0]), Target: filepath.Clean(target)})
			}
		}
	}
	return out
}

// mountsIn reads the directories of the hypervisor that an lxc configuration shows its container.
func mountsIn(config, home string) []spec.Mount {
	var out []spec.Mount
	for line := range strings.Lines(config) {
		key, value, ok := strings.Cut(line, "=")
		if rest, raw := strings.CutPrefix(line, "lxc.mount.entry:"); raw || !ok { // as Proxmox has it
			key, value = "lxc.mount.entry", rest
		}
		f := strings.Fields(value)
		if strings.TrimSpace(key) != "lxc.mount.entry" || len(f) < 4 || !strings.HasPrefix(f[0], "/") ||
			!strings.Contains(f[3], "bind") {
			continue
		}
		target := strings.TrimPrefix(host.Unescape(f[1]), filepath.Join(home, "rootfs"))
		source := filepath.Clean(host.Unescape(f[0]))
		if !slices.ContainsFunc([]string{"/dev/", "/proc/", "/sys/"},
			func(dir string) bool { return strings.HasPrefix(source+"/", dir) }) {
			out = append(out, spec.Mount{Source: source, Target: filepath.Join("/", target)})
		}
	}
	return out
}

// find looks for what the CA's container shares with others.
func (o *oldHouse) find() error {
	ca, ok := o.guest(o.ca)
	if !ok {
		return nil
	}
	for _, m := range ca.mounts {
		with := o.seeing(m.Source)
		if len(with) > 1 && len(with) > len(o.sharedWith) {
			o.shared, o.sharedWith = m.Source, with
		}
	}
	if o.shared == "" {
		return hint("phoenix migrate tells what the configuration shares", "container %s shares no directory with "+
			"another one: there is nothing to move", o.ca)
	}
	return nil
}

// seeing are the containers that are defined to see a directory, or one above or below.
func (o *oldHouse) seeing(directory string) []string {
	var out []string
	for _, g := range o.guests {
		if slices.ContainsFunc(g.mounts, func(m spec.Mount) bool { return overlaps(m.Source, directory) }) {
			out = append(out, g.id)
		}
	}
	return out
}

func overlaps(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// suits fails where a container cannot be kept as it is: its root file system stands elsewhere, or its ids are others.
func (g guest) suits(want spec.Container) error {
	if want.Guest != nil {
		if have := strings.Contains("\n"+g.config, "\nunprivileged: 1\n"); have != (want.IDMap != (spec.IDMap{})) {
			return hint(`"unprivileged" in the configuration says which`, "container %s is not unprivileged as the "+
				"configuration wants it, or is and should not be: that cannot be changed", g.id)
		}
		return nil
	}
	root, base, count := "", 0, 0
	for line := range strings.Lines(g.config) {
		key, value, _ := strings.Cut(line, "=")
		f := strings.Fields(value)
		switch key = strings.TrimSpace(key); {
		case key == "lxc.rootfs.path" && len(f) > 0:
			root = strings.TrimPrefix(f[0], "dir:")
		case key == "lxc.idmap" && len(f) == 4 && f[0] == "u" && f[1] == "0":
			base, count = number(f[2]), number(f[3])
		}
	}
	if root != filepath.Join(g.home, "rootfs") {
		return hint("move it there while the container is stopped", "container %s has its root file system at %s; "+
			"phoenix keeps it at %s", g.id, root, filepath.Join(g.home, "rootfs"))
	}
	if base != want.IDMap.Base || count != want.IDMap.Count {
		return hint(`"unprivileged" in the configuration says which`, "container %s maps its ids to %d and %d more, "+
			"the configuration wants %d and %d more", g.id, base, count, want.IDMap.Base, want.IDMap.Count)
	}
	return nil
}

func number(text string) int {
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// isThere is whether a path exists.
func isThere(h host.Host, path string) bool {
	_, err := h.Lstat(path)
	return err == nil
}
