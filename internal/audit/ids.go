package audit

import (
	"path"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var (
	ruleUsersIDs = config.Rule{ID: "PHX-AUD-085", Grade: config.Critical,
		Title: "a user of the hypervisor has a container's ids",
		Why: "who has the ids becomes any user of the container, root too, and reads and changes all its files: " +
			"keys, passwords, databases"}
	ruleSharedIDs = config.Rule{ID: "PHX-AUD-086", Grade: config.High, Title: "two containers have the same ids",
		Why: "root in one container owns the other one's files the moment it can reach them"}
)

// ids looks who else has the ids of each container, whoever made it.
func (s *system) ids() {
	var files idrange.Files
	for i, p := range idrange.Paths {
		b, _ := s.h.ReadFile(p) // a file that is not there gives nobody anything
		files[i] = string(b)
	}
	claims := files.Claims()
	for i, d := range s.all {
		if d.privileged || d.ids <= 0 {
			continue
		}
		r := spec.IDMap{Base: d.base, Count: d.ids}
		if others := idrange.Others(claims, r); len(others) > 0 {
			var who []string
			for _, o := range others[:min(len(others), 3)] {
				who = append(who, o.String())
			}
			s.add(ruleUsersIDs, "container/"+d.id, s.ownRange(d, "or give them another range with usermod "+
				"--del-subuids, --add-subuids, --del-subgids and --add-subgids"),
				"container %s has the ids %s (%s); %s", d.id, idrange.Text(r), d.file, strings.Join(who, ", "))
		}
		for _, first := range s.all[:i] {
			o := spec.IDMap{Base: first.base, Count: first.ids}
			if first.id == d.id || first.privileged || !idrange.Overlaps(r, o) || s.proxmoxMadeBoth(d, first) {
				continue
			}
			moves := d
			if !s.moves(d) && s.moves(first) {
				moves = first
			}
			s.add(ruleSharedIDs, "container/"+d.id, s.ownRange(moves, ""), "container %s has the ids %s (%s), and "+
				"container %s has %s (%s)",
				d.id, idrange.Text(r), d.file, first.id, idrange.Text(o), first.file)
			break
		}
	}
}

// proxmoxMadeBoth is whether two containers have the range that Proxmox makes all in, and neither is one that phoenix
// runs: templates and what others made stay in it.
func (s *system) proxmoxMadeBoth(a, b definition) bool {
	return s.proxmox(a) && s.proxmox(b) && !a.mapped && !b.mapped && !s.moves(a) && !s.moves(b)
}

// moves is whether phoenix gives the container ids of its own.
func (s *system) moves(d definition) bool {
	return slices.ContainsFunc(s.scene.Wanted,
		func(w Wanted) bool { return w.ID == d.id && w.Unprivileged && !w.Template })
}

func (s *system) proxmox(d definition) bool { return path.Dir(d.file) == s.scene.Proxmox }

// ownRange is how a container gets ids of its own.
func (s *system) ownRange(d definition, or string) string {
	switch {
	case s.proxmox(d) && !s.moves(d) && or == "":
		return "give one of them other ids: lxc.idmap lines at the end of its file's first section, and its files " +
			"along while it is stopped"
	case s.proxmox(d) && !s.moves(d):
		return strings.TrimPrefix(or, "or ")
	case or != "":
		or = ", " + or
	}
	return "phoenix apply " + d.id + " --yes gives it ids of its own where it is phoenix's" + or
}
