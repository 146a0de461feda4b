package idrange

import (
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Moving is a move between ranges that is not over: what of the container is in one of From belongs to To.
type Moving struct {
	To   spec.IDMap
	From []spec.IDMap
}

// Note is the line in a container's notes that says so, until it is over. The id tells a note from its copy: a restore
// to another container brings notes along.
func (m Moving) Note(id string) string {
	return notePrefix(id) + Text(m.To) + " from " + Texts(m.From)
}

func notePrefix(id string) string { return "phoenix: " + spec.KindIDs + "/" + id + " " }

// Texts are ranges as Text has them, with blanks in between.
func Texts(all []spec.IDMap) string {
	var out []string
	for _, m := range all {
		out = append(out, Text(m))
	}
	return strings.Join(out, " ")
}

// MovingOf is the inverse of Note; false: the note is about something else.
func MovingOf(id, note string) (Moving, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(note), notePrefix(id))
	to, from, cut := strings.Cut(rest, " from ")
	if !ok || !cut {
		return Moving{}, false
	}
	var m Moving
	if m.To, ok = Parse(to); !ok {
		return Moving{}, false
	}
	for _, text := range strings.Fields(from) {
		f, ok := Parse(text)
		if !ok {
			return Moving{}, false
		}
		m.From = append(m.From, f)
	}
	return m, true
}

// Guest is what Proxmox's file of a container says of its ids.
type Guest struct {
	IDMap  spec.IDMap // that it runs in; zero: it is privileged
	Odd    bool       // its lines map ids in parts, or users and groups differently
	Moving Moving     // zero: no move is under way
	Ours   bool       // it is phoenix's
}

// Has is the range that its files have, or get.
func (g Guest) Has() spec.IDMap {
	if g.IsMoving() {
		return g.Moving.To
	}
	return g.IDMap
}

// IsMoving is whether a move is not over.
func (g Guest) IsMoving() bool { return g.Moving.To != (spec.IDMap{}) }

// ParseGuest reads the present state in a file of Proxmox's (pct.conf(5)): what comes before its snapshots.
func ParseGuest(id, config string) (g Guest) {
	var lines []string
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			g.setLines(lines)
			return g
		case strings.HasPrefix(line, "#"):
			note := strings.TrimSpace(strings.NewReplacer("%3A", ":", "%3a", ":").Replace(line[1:]))
			if m, ok := MovingOf(id, note); ok {
				g.Moving = m
			}
			g.Ours = g.Ours || note == "phoenix: "+spec.KindContainer+"/"+id
		case strings.HasPrefix(line, "lxc.idmap"):
			lines = append(lines, line)
		case line == "unprivileged: 1":
			g.IDMap = Shared
		}
	}
	g.setLines(lines)
	return g
}

// setLines has lines of its own count more than the usual range.
func (g *Guest) setLines(lines []string) {
	if len(lines) == 0 {
		return
	}
	config := strings.Join(lines, "\n")
	m, mapped := Root(config)
	g.Odd = !mapped || len(lines) != 2 || !slices.ContainsFunc(lines, func(l string) bool {
		f := strings.Fields(strings.TrimLeft(strings.TrimPrefix(l, "lxc.idmap"), " \t=:"))
		return len(f) == 4 && f[0] == "g" && f[1] == "0" && number(f[2]) == m.Base && number(f[3]) == m.Count
	})
	if mapped {
		g.IDMap = m
	}
}
