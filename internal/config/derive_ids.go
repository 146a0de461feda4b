package config

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// idRange is what a container has of ids.
type idRange struct {
	own   spec.IDMap // that is to be its alone; zero: there is none left
	now   spec.IDMap // that its files have, or get when it is made; zero: privileged
	there bool       // the container is there
}

func (r idRange) isOwn() bool { return r.now == r.own }

// moves is whether containers that have no range of their own get one now.
func (m IDs) moves() bool { return m.Move && m.Held == "" }

// blockOf is where containers get their ranges from.
func (m Machine) blockOf() spec.IDMap {
	if m.IDs.None {
		return spec.IDMap{}
	}
	return cmp.Or(m.IDs.Block, idrange.Usual)
}

// assign gives each unprivileged container a range: the one that it has where that is its own, else one that was given
// to it before, else the first one that nobody has. The order is that of the file, so that two who ask at once are told
// the same. Templates have a range in which nothing runs; on a Proxmox host it is the one that Proxmox makes containers
// in.
func (d *derivation) assign() map[string]idRange {
	out, m := map[string]idRange{}, d.machine
	block := m.blockOf()
	taken := slices.Clone(m.IDs.Taken)
	for _, o := range m.IDs.Others {
		taken = append(taken, o.IDMap)
	}
	all := slices.DeleteFunc(slices.Clone(d.cfg.Containers), func(c *Container) bool {
		return !c.Unprivileged || d.house.templates[c.ID]
	})
	give := func(c *Container, r spec.IDMap) bool {
		if _, has := out[c.ID]; has || !idrange.Slot(block, r) || overlaps(taken, r) {
			return false
		}
		now, there := m.IDs.Have[c.ID]
		if !there || m.IDs.moves() {
			now = r
		}
		out[c.ID] = idRange{own: r, now: now, there: there}
		taken = append(taken, r)
		return true
	}
	for _, c := range all {
		give(c, m.IDs.Have[c.ID])
	}
	// what runs in a range has its files there, whether it is to stay, or stands in the file, or not
	for _, have := range m.IDs.Have {
		taken = append(taken, have)
	}
	for _, c := range all {
		give(c, m.IDs.Kept[c.ID])
	}
	for id, kept := range m.IDs.Kept { // containers that are not in the file any more keep theirs
		if _, has := out[id]; !has {
			taken = append(taken, kept)
		}
	}
	for _, c := range all {
		if _, has := out[c.ID]; has {
			continue
		}
		if free, ok := idrange.Free(block, taken, m.IDs.First); ok {
			give(c, free)
			continue
		}
		now, there := m.IDs.Have[c.ID]
		out[c.ID] = idRange{now: now, there: there}
	}
	return out
}

func overlaps(taken []spec.IDMap, r spec.IDMap) bool {
	return slices.ContainsFunc(taken, func(t spec.IDMap) bool { return idrange.Overlaps(t, r) })
}

// idMap is the range that a container's files have, or get; zero: it is privileged.
func (d *derivation) idMap(c *Container) spec.IDMap {
	if now := d.ranges[c.ID].now; now != (spec.IDMap{}) || !c.Unprivileged || !d.proxmox() {
		return now
	}
	return idrange.Shared // of a template, or where there is no other
}

// templateIDs is the range that a template's tree has: on a Proxmox host the one that Proxmox makes it in, else one
// that no container runs in.
func (d *derivation) templateIDs(c *Container) spec.IDMap {
	if !c.Unprivileged || d.proxmox() || d.machine.IDs.None {
		return d.idMap(c)
	}
	return idrange.Templates(d.machine.blockOf())
}

// block is what root reserves for a range: the whole block where it is of that, else the range itself.
func (d *derivation) block(m spec.IDMap) spec.IDMap {
	if b := d.machine.blockOf(); idrange.Within(m, b) {
		return b
	}
	return m
}

// ownIDs begins the object of a container's own range. The address is that on which all waits that has the range's ids;
// empty: nothing does, as the container has another one still.
func (d *derivation) ownIDs(c *Container) (*spec.IDRange, object.Address) {
	r := d.ranges[c.ID]
	if !c.Unprivileged || r.own == (spec.IDMap{}) {
		return nil, ""
	}
	s := &spec.IDRange{ID: c.ID, Path: d.lxcPath(c), IDMap: r.own, Claims: d.machine.IDs.Claims}
	if p := d.machine.Proxmox; p != nil {
		s.Path, s.Proxmox, s.Records = path.Join(p.Dir, "lxc"), p, d.records(c)
	}
	if have, there := d.machine.IDs.Have[c.ID]; there && have != r.own {
		s.Now = &have
		s.Held = d.machine.IDs.Held
		s.Stays = s.Held != "" || !d.machine.IDs.moves() && !d.machine.IDs.Plan
	}
	if !r.isOwn() {
		return s, ""
	}
	return s, object.NewAddress(spec.KindIDs, c.ID)
}

// alongWith adds a volume to what goes along with the container: one that was made for it as a whole, of a directory
// that was there before what belongs to the container, unless others see it too.
func alongWith(s *spec.IDRange, made spec.Volume) {
	switch {
	case s == nil, made.HostDirectory != nil && made.HostDirectory.Shared:
	case made.HostDirectory != nil:
		s.Binds = append(s.Binds, made.Path)
	default:
		s.Volumes = append(s.Volumes, made.Path)
	}
}

// setIDs adds the object once its volumes are known.
func (d *derivation) setIDs(c *Container, s *spec.IDRange) {
	if s == nil {
		return
	}
	if len(s.Binds) > 0 {
		s.Directories = d.machine.IDs.Directories
	}
	d.add(on(c, spec.KindIDs, d.machine.Runtime), s, d.subID(d.block(s.IDMap)))
}

// tellIDs says who else has the ids of containers, and which containers have none of their own.
func (d *derivation) tellIDs() {
	var none []string
	shared := map[spec.IDMap][]string{}
	for _, c := range d.cfg.Containers {
		r, asked := d.ranges[c.ID]
		if !asked {
			continue
		}
		if r.own == (spec.IDMap{}) {
			none = append(none, c.ID)
		}
		if now := d.machine.IDs.Have[c.ID]; r.there && now != r.own {
			shared[cmp.Or(now, r.now)] = append(shared[cmp.Or(now, r.now)], c.ID)
		}
	}
	if len(none) > 0 {
		d.note(diag.Error, object.Source{}, fmt.Sprintf("there are no ids for containers %s: others have all of what "+
			"is fit for them", strings.Join(none, ", ")),
			"give root a line root:START:COUNT in /etc/subuid and /etc/subgid, both numbers multiples of 65536, that "+
				"overlaps with nobody's")
	}
	for _, m := range sortedRanges(shared) {
		d.tellShared(m, shared[m])
	}
	d.tellTemplates()
}

// tellTemplates says who else has the ids that Proxmox makes templates in: what is changed in one is in all that are
// cloned from it.
func (d *derivation) tellTemplates() {
	var ids []string
	for _, c := range d.cfg.Containers {
		if d.proxmox() && c.Unprivileged && d.house.templates[c.ID] {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return
	}
	for _, o := range idrange.Others(d.machine.IDs.Others, idrange.Shared) {
		d.note(diag.Warning, object.Source{File: o.File, Line: o.Line},
			fmt.Sprintf("the ids %s, which Proxmox makes template %s in, are %s's too, who can change what is cloned "+
				"from it", idrange.Text(idrange.Shared), strings.Join(ids, ", "), o.Who),
			"give "+o.Who+" another range: usermod --del-subuids and --add-subuids, --del-subgids and --add-subgids")
	}
}

func sortedRanges(m map[spec.IDMap][]string) []spec.IDMap {
	var out []spec.IDMap
	for r := range m {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b spec.IDMap) int {
		return cmp.Or(cmp.Compare(a.Base, b.Base), cmp.Compare(a.Count, b.Count))
	})
	return out
}

// tellShared says what is wrong with a range that containers have and none has for itself.
func (d *derivation) tellShared(m spec.IDMap, ids []string) {
	who := "container " + ids[0]
	if len(ids) > 1 {
		who = "containers " + strings.Join(ids, ", ")
	}
	fix := "phoenix apply --yes gives each container ids of its own, and restarts it"
	switch {
	case d.machine.IDs.Held != "":
		fix = d.machine.IDs.Held
	}
	for _, o := range idrange.Others(d.machine.IDs.Others, m) {
		d.note(diag.Warning, object.Source{File: o.File, Line: o.Line},
			fmt.Sprintf("the ids %s of %s are %s's too, who can read and change every file of theirs", idrange.Text(m),
				who, o.Who), fix)
	}
	switch {
	case d.machine.IDs.moves():
	case m == (spec.IDMap{}):
		d.note(diag.Warning, object.Source{}, who+" runs privileged: root in it is root on the hypervisor", fix)
	default:
		d.note(diag.Warning, object.Source{}, fmt.Sprintf("%s: the ids %s are no range of its own: root in one "+
			"container owns the files of all that have them", who, idrange.Text(m)), fix)
	}
}
