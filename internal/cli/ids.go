package cli

import (
	"cmp"
	"context"
	"hash/fnv"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// idClaims has a link for each range of ids that a container of this hypervisor has, whichever root it is of: NUMBER ->
// LXCPATH/ID. It is no state: what a container has stands in its own configuration, and a link that was lost is made
// again.
const idClaims = "/var/lib/phoenix-ids"

// IDPlaces are where it stands on this machine who has which range of ids.
type IDPlaces struct {
	Claims    string // the directory of links; empty: idClaims
	Processes string // the directory that has uid_map of each process; empty: /proc
}

func (p IDPlaces) claims() string    { return cmp.Or(p.Claims, idClaims) }
func (p IDPlaces) processes() string { return cmp.Or(p.Processes, "/proc") }

type idPlacesKey struct{}

// WithIDPlaces gives Main other places than the machine's: for tests on whose ranges nobody else on the machine may
// have a say.
func WithIDPlaces(ctx context.Context, p IDPlaces) context.Context {
	return context.WithValue(ctx, idPlacesKey{}, p)
}

func idPlacesOf(ctx context.Context) IDPlaces {
	p, _ := ctx.Value(idPlacesKey{}).(IDPlaces)
	return p
}

// observeIDs looks who has which ids. Who may not read something sees less, and may change nothing either.
func (a *app) observeIDs(cfg *config.Config, m *config.Machine) {
	var files idrange.Files
	for i, path := range idrange.Paths {
		raw, _ := a.host.ReadFile(path) // a file that is not there gives nobody anything
		files[i] = string(raw)
	}
	ids := config.IDs{
		Others: slices.DeleteFunc(files.Claims(), func(c idrange.Claim) bool { return c.Root }),
		Have:   map[string]spec.IDMap{}, Kept: map[string]spec.IDMap{}, Claims: a.idPlaces.claims(),
		First: a.firstRange(m.Root), Move: a.moveIDs,
		Plan: a.planIDs,
	}
	block, ok := files.Block()
	ids.Block, ids.None = block, !ok
	m.IDs = ids
	if j := journalIn(a.host, m.Root); a.moving != nil || j.sharedPath() != "" && !j.there(j.shredded()) {
		m.IDs.Held = "the way back of migrate --live needs the ids of before: end the migration with phoenix migrate " +
			"--live --shred --yes, then phoenix apply --yes"
	}
	if m.Proxmox != nil {
		a.observeGuests(cfg, m)
		return
	}
	own := a.ownHomes(cfg, *m)
	m.IDs.Directories = []string{otherContainers}
	for id, home := range own {
		m.IDs.Directories = append(m.IDs.Directories, filepath.Dir(home))
		if raw, err := a.host.ReadFile(filepath.Join(home, "config")); err == nil {
			m.IDs.Have[id], _ = idrange.Root(string(raw))
		}
	}
	a.observeClaims(m, own)
	slices.Sort(m.IDs.Directories)
	m.IDs.Directories = slices.Compact(m.IDs.Directories)
	a.observeForeign(m, own)
}

// firstRange is where a root begins to look for ranges. Each root but the usual one begins elsewhere, so that two that
// make containers at once hardly ever want the same; where nobody else has a say there is nothing to keep apart.
func (a *app) firstRange(root string) int {
	if root == defaultRoot || a.idPlaces.Claims != "" {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(root))
	return int(h.Sum32() >> 8) // not negative, also where an int has 32 bits
}

// ownHomes are the directories of this root's containers, by id: those of the file, whether they are there or not, and
// those that are there. What is half made beside them (.ID.new) is none: its range is its container's, which must get
// it again.
func (a *app) ownHomes(cfg *config.Config, m config.Machine) map[string]string {
	out, directory := map[string]string{}, filepath.Join(m.Root, "lxc")
	names, _ := a.host.ReadDir(directory) // it may not be there yet
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, ".") })
	for _, c := range cfg.Containers {
		names = append(names, c.ID)
	}
	for _, id := range names {
		out[id] = filepath.Join(directory, id)
		if home := m.Homes[id]; home != "" {
			out[id] = filepath.Join(home, id)
		}
	}
	return out
}

// observeClaims reads which ranges were given to whom. Where a link was lost, the directory of a container's volumes
// tells.
func (a *app) observeClaims(m *config.Machine, own map[string]string) {
	names, _ := a.host.ReadDir(m.IDs.Claims) // nobody has a range yet
	for _, name := range names {
		base, err := strconv.Atoi(name)
		target, linkErr := a.host.Readlink(filepath.Join(m.IDs.Claims, name))
		if err != nil || linkErr != nil {
			continue
		}
		r := spec.IDMap{Base: base, Count: idrange.Size}
		id := filepath.Base(target)
		if filepath.IsAbs(target) {
			m.IDs.Directories = append(m.IDs.Directories, filepath.Dir(filepath.Clean(target)))
		}
		if _, twice := m.IDs.Kept[id]; own[id] == target && !twice {
			m.IDs.Kept[id] = r
		} else if own[id] != target {
			m.IDs.Taken = append(m.IDs.Taken, r)
		}
	}
	volumes := filepath.Join(m.Root, "volumes")
	names, _ = a.host.ReadDir(volumes) // it may not be there
	for _, id := range names {
		meta, err := a.host.Lstat(filepath.Join(volumes, id))
		r := spec.IDMap{Base: meta.GID, Count: idrange.Size}
		if _, has := m.IDs.Kept[id]; err == nil && !has && idrange.Slot(m.IDs.Block, r) {
			m.IDs.Kept[id] = r
		}
	}
}

// observeForeign looks for containers that are not this root's: those of lxc's and Proxmox's own directories, and those
// that run, wherever they are.
func (a *app) observeForeign(m *config.Machine, own map[string]string) {
	mine := map[string]bool{}
	for _, home := range own {
		mine[home] = true
	}
	names, _ := a.host.ReadDir(otherContainers) // there may be none
	for _, id := range names {
		if home := filepath.Join(otherContainers, id); !mine[home] {
			a.takenBy(m, filepath.Join(home, "config"))
		}
	}
	names, _ = a.host.ReadDir(proxmoxDefinitions) // there may be none
	for _, name := range names {
		a.takenBy(m, filepath.Join(proxmoxDefinitions, name))
	}
	a.observeRunning(m, own)
}

// observeRunning looks at what runs, where a range has to be chosen.
func (a *app) observeRunning(m *config.Machine, own map[string]string) {
	for id := range own {
		r, has := m.IDs.Have[id]
		if !has {
			r, has = m.IDs.Kept[id]
		}
		if !has || !idrange.Slot(m.IDs.Block, r) {
			m.IDs.Taken = append(m.IDs.Taken, a.running(*m)...)
			return
		}
	}
}

func (a *app) takenBy(m *config.Machine, file string) {
	raw, err := a.host.ReadFile(file)
	if err != nil {
		return
	}
	m.IDs.Taken = append(m.IDs.Taken, idrange.Maps(string(raw))...)
}

// running are the ranges that processes of this machine live in and that are not in those of this root's containers,
// which may give parts of theirs on.
func (a *app) running(m config.Machine) (out []spec.IDMap) {
	names, _ := a.host.ReadDir(a.idPlaces.processes()) // without it nobody is seen
	seen := map[string]bool{}
	for _, pid := range names {
		if pid == "" || pid[0] < '0' || pid[0] > '9' {
			continue
		}
		raw, err := a.host.ReadFile(filepath.Join(a.idPlaces.processes(), pid, "uid_map"))
		if err != nil || seen[string(raw)] {
			continue
		}
		seen[string(raw)] = true
		for _, r := range idrange.Kernel(string(raw)) {
			if r.Base > 0 && !withinAny(r, m.IDs.Have) && !withinAny(r, m.IDs.Kept) {
				out = append(out, r)
			}
		}
	}
	return out
}

func withinAny(r spec.IDMap, all map[string]spec.IDMap) bool {
	for _, o := range all {
		if idrange.Within(r, o) {
			return true
		}
	}
	return false
}
