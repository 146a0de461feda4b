package config

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Finding is one thing that the audit found. It never has a secret in it.
type Finding struct {
	Rule    Rule
	Source  object.Source // zero: it is not about a file
	Path    string        // of the value in the file
	Object  string        // container/101, or the part of the file that it is about
	Summary string
	Fix     string
}

// Audited is what the audit of the files says.
type Audited struct {
	Config      *Config // what could be read of it; never nil
	Findings    []Finding
	Acceptances []*Acceptance
	Unreadable  diag.List // not empty: a file is no JSON, and nobody knows what is in it
}

// Audit looks at the users' files, also at those that Load refuses. It is as pure as Load: what has expired by now is
// told by Settle.
func Audit(files []File) Audited {
	l, c := load(files)
	out := Audited{Config: l.cfg, Acceptances: l.cfg.Hypervisor.AuditAccept}
	if l.broken {
		out.Unreadable = l.diags
		return out
	}
	a := &auditor{checker: c}
	for _, t := range l.trees {
		root := spot{file: t.file, at: place{line: t.root.line}, n: t.root}
		if t.containers {
			a.containerFile = root
		} else {
			a.hypervisorFile = root
		}
	}
	a.rest()
	l.diags.Sort()
	for _, d := range l.diags {
		if r, ok := ruleOf(d.Rule); ok {
			out.Findings = append(out.Findings,
				Finding{Rule: r, Source: object.Source{File: d.File, Line: d.Line}, Path: d.Path,
					Object: objectOf(d.Path), Summary: shown(d.Summary), Fix: shown(d.Hint)})
		}
	}
	return out
}

// shown takes out what does something to a terminal: values that are kept without being read are not checked for it.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func ruleOf(id string) (Rule, bool) {
	list := Rules()
	i := slices.IndexFunc(list, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, false
	}
	return list[i], true
}

// objectOf is what the value at a path is about: a container, or a part of the hypervisor's file.
func objectOf(path string) string {
	parts := strings.SplitN(path, ".", 3)
	if len(parts) > 1 && parts[0] == "lxc_configs" {
		return "container/" + parts[1]
	}
	if len(parts) > 1 && parts[0] == "shared_volumes" {
		return strings.Join(parts[:2], ".")
	}
	first, _, _ := strings.Cut(parts[0], "[")
	return cmp.Or(first, "hypervisor")
}

// auditor has the rules that refuse nothing and that only the audit tells about. Values that Load keeps without reading
// them it reads from the files' trees.
type auditor struct {
	*checker
	containerFile, hypervisorFile spot
}

// spot is a value in a file with its place. The zero spot is no value: everything of it is empty.
type spot struct {
	file string
	at   place
	n    *node
}

// get goes to the value of a key.
func (s spot) get(keys ...string) spot {
	for _, key := range keys {
		s = s.member(key)
	}
	return s
}

func (s spot) member(key string) spot {
	if s.n == nil {
		return spot{}
	}
	for _, m := range s.n.members {
		if m.key == key {
			return spot{file: s.file, at: s.at.key(key, m.line), n: m.value}
		}
	}
	return spot{}
}

// list are the elements of a list.
func (s spot) list() []spot {
	if s.n == nil {
		return nil
	}
	var out []spot
	for i, item := range s.n.items {
		out = append(out, spot{file: s.file, at: s.at.index(i, item.line), n: item})
	}
	return out
}

// text is a string, a number, true or false as it is written.
func (s spot) text() string {
	if s.n == nil {
		return ""
	}
	return s.n.text
}

// walk visits the value and all below it, with their keys; elements of lists have that of the list.
func (s spot) walk(key string, visit func(key string, s spot)) {
	if s.n == nil {
		return
	}
	visit(key, s)
	for _, m := range s.n.members {
		spot{file: s.file, at: s.at.key(m.key, m.line), n: m.value}.walk(m.key, visit)
	}
	for _, item := range s.list() {
		item.walk(key, visit)
	}
}

// report adds a finding at a spot.
func (c *checker) report(r Rule, s spot, hint, summary string) {
	s.at.report(c.list, diag.Diagnostic{Severity: r.severity(), Rule: r.ID, File: s.file, Summary: summary, Hint: hint})
}

// rest has every rule that Load does not.
func (a *auditor) rest() {
	a.auditOwners()
	a.auditTwice()
	a.auditShares()
	a.auditDevices()
	a.auditNesting()
	a.auditNobody()
	a.auditPasswords()
	a.auditAuthority()
	a.auditLifetimes()
	a.auditFirewall()
	a.auditAccess()
	a.auditNames()
	a.auditTLS()
}

// auditOwners tells the owner of a directory that others see it too.
func (a *auditor) auditOwners() {
	groups := map[string][]mounted{}
	all := a.mounts()
	for _, m := range all {
		groups[m.path] = append(groups[m.path], m)
	}
	for _, m := range all {
		first := owner(groups[m.path])
		if m.at.Source != first.at.Source || m.key == "" {
			continue
		}
		var others []string
		for _, o := range groups[m.path] {
			if o.container != m.container && !(o.share && m.share) && !slices.Contains(others, o.container) {
				others = append(others, o.container)
			}
		}
		if len(others) > 0 {
			a.finding(ruleSamePath, m.at, m.key, "phoenix migrate gives container "+m.container+
				" a volume of its own; what was in "+m.path+" counts as leaked",
				"%s of container %s is seen by %s too", m.path, m.container, strings.Join(others, " and "))
		}
	}
}

// auditShares lists the directories that containers share on purpose, each with who sees it.
func (a *auditor) auditShares() {
	all := slices.DeleteFunc(a.mounts(), func(m mounted) bool { return !m.share })
	for i, m := range all {
		if slices.ContainsFunc(all[:i], func(o mounted) bool { return o.path == m.path }) {
			continue
		}
		var users []string
		for _, o := range all {
			if o.path == m.path && !slices.Contains(users, o.container) {
				users = append(users, o.container)
			}
		}
		a.finding(ruleShare, m.at, "share", `take "share" out where one container alone needs it`,
			"%s is seen by containers %s", m.path, strings.Join(users, ", "))
	}
}

// auditDevices lists the devices that containers are given.
func (a *auditor) auditDevices() {
	for _, x := range a.cfg.Containers {
		if len(x.Devices) > 0 {
			a.finding(ruleDevices, x.At, "devices", "take out what the application does not need",
				"container %s is given %s", x.ID, strings.Join(x.Devices, ", "))
		}
	}
}

// auditTwice looks for one directory at two places of one container. One inside the other is left to the users.
func (a *auditor) auditTwice() {
	for _, x := range a.cfg.Containers {
		for i, m := range x.MountPoints {
			for _, first := range x.MountPoints[:i] {
				if one := cleanPath(m.HostPath); strings.HasPrefix(one, "/") && one == cleanPath(first.HostPath) {
					a.finding(ruleTwiceInside, m.At, "host_path", "remove one of the two mounts",
						"%s is mounted in container %s already, see %s",
						one, x.ID, first.source("host_path"))
					break
				}
			}
		}
	}
}

// nobody is the id of the user that files of ids that a container does not have seem to belong to (user_namespaces(7)).
const nobody = 65534

// auditNobody looks for owners that are no owners.
func (a *auditor) auditNobody() {
	const fix = "0, or the id of the one user that needs it"
	for _, x := range a.cfg.Containers {
		for _, v := range x.Volumes {
			a.ownerIsNobody(v.At, "owner_uid", v.UID, fix)
			a.ownerIsNobody(v.At, "owner_gid", v.GID, fix)
		}
		for _, m := range x.MountPoints {
			a.ownerIsNobody(m.At, "owner_uid", m.UID, fix)
			a.ownerIsNobody(m.At, "owner_gid", m.GID, fix)
		}
		for _, c := range x.Certificates {
			user, group, _ := strings.Cut(c.Owner, ":")
			if slices.Contains([]string{"nobody", "65534"}, user) ||
				slices.Contains([]string{"nogroup", "nobody", "65534"}, group) {
				a.finding(ruleNobodys, c.At, "owner", "root:root, or the user that serves it",
					"the key would belong to %s", c.Owner)
			}
		}
	}
}

func (a *auditor) ownerIsNobody(at At, key string, id *int, fix string) {
	if id != nil && *id == nobody {
		a.finding(ruleNobodys, at, key, fix, "it would belong to nobody")
	}
}
