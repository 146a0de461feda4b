package pve

import (
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// filter is one of Proxmox's firewall files. It is kept line by line, so that what is not touched is printed as it was
// read: parse and text are inverse for every input.
type filter struct {
	parts []part // the first has no name and is always there
}

// part is a section: options, rules, and others that are left alone.
type part struct {
	name  string // in lower case
	lines []string
}

var partLine = regexp.MustCompile(`^\[(\S+)(?:\s+\S+)?\]\s*(?:#.*)?$`)

// What PVE::Firewall reads in a line of a rule.
var (
	ruleHead   = regexp.MustCompile(`^(\S+)\s+(\S+)\s*`)
	ruleOption = regexp.MustCompile(`^(-\S+)\s+(\S+)\s*`)
	macroForm  = regexp.MustCompile(`^([^()]+)\(([^()]+)\)$`)
	optionLine = regexp.MustCompile(`^[ \t]*([A-Za-z][A-Za-z0-9_]*):\s*(\S.*?)?\s*$`)
)

func parseFilter(text string) *filter {
	f := &filter{parts: []part{{}}}
	for line := range strings.Lines(text) {
		if m := partLine.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			f.parts = append(f.parts, part{name: strings.ToLower(m[1]), lines: []string{line}})
			continue
		}
		last := &f.parts[len(f.parts)-1]
		last.lines = append(last.lines, line)
	}
	return f
}

// text is the file.
func (f *filter) text() string {
	var b strings.Builder
	for _, p := range f.parts {
		for _, l := range p.lines {
			b.WriteString(l)
		}
	}
	return b.String()
}

// part gives a section. Where there is none it is made, options before all others.
func (f *filter) part(name string) *part {
	if i := slices.IndexFunc(f.parts, func(p part) bool { return p.name == name }); i >= 0 {
		return &f.parts[i]
	}
	i := len(f.parts)
	if name == "options" {
		i = 1
	}
	if last := &f.parts[i-1]; len(last.lines) > 0 {
		last.end()
		if strings.TrimSpace(last.lines[len(last.lines)-1]) != "" {
			last.lines = append(last.lines, "\n")
		}
	}
	f.parts = slices.Insert(f.parts, i, part{name: name, lines: []string{"[" + strings.ToUpper(name) + "]\n", "\n"}})
	if next := i + 1; next < len(f.parts) {
		f.parts[i].lines = append(f.parts[i].lines, "\n")
	}
	return &f.parts[i]
}

// end closes a last line that has no end.
func (p *part) end() {
	if n := len(p.lines); n > 0 && !strings.HasSuffix(p.lines[n-1], "\n") {
		p.lines[n-1] += "\n"
	}
}

// option is the value of an option; of several lines the last counts.
func (f *filter) option(key string) (value string) {
	for _, p := range f.parts {
		if p.name != "options" {
			continue
		}
		for _, l := range p.lines {
			if m := optionLine.FindStringSubmatch(strings.TrimRight(l, "\r\n")); m != nil &&
				strings.EqualFold(m[1], key) {
				value = m[2]
			}
		}
	}
	return value
}

// setOption changes the lines of an option, or adds one; without a value it goes.
func (f *filter) setOption(key, value string) {
	if f.option(key) == value {
		return
	}
	for i := range f.parts {
		if f.parts[i].name == "options" {
			f.parts[i].lines = slices.DeleteFunc(f.parts[i].lines, func(l string) bool {
				m := optionLine.FindStringSubmatch(strings.TrimRight(l, "\r\n"))
				return m != nil && strings.EqualFold(m[1], key)
			})
		}
	}
	if value == "" {
		return
	}
	p := f.part("options")
	p.end()
	at := len(p.lines)
	for at > 2 && strings.TrimSpace(p.lines[at-1]) == "" {
		at--
	}
	p.lines = slices.Insert(p.lines, at, key+": "+value+"\n")
}

// marked marks a rule as phoenix's, in the comment that Proxmox keeps with it.
const marked = spec.FilterMark

// fileRule is a line that is a rule.
type fileRule struct {
	spec.Rule
	off  bool // a | before it
	ours bool
}

// rules are those of the file.
func (f *filter) rules() (out []fileRule) {
	for _, p := range f.parts {
		if p.name != "rules" {
			continue
		}
		for _, l := range p.lines {
			if r, ok := parseRule(l); ok {
				out = append(out, r)
			}
		}
	}
	return out
}

// parseRule reads a line as Proxmox does; false: it is none that is understood.
func parseRule(line string) (r fileRule, ok bool) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
		return r, false
	}
	line, r.Comment, _ = strings.Cut(line, "#")
	r.Comment = strings.TrimSpace(r.Comment)
	r.Comment, r.ours = strings.CutPrefix(r.Comment, marked)
	r.Comment = strings.TrimSpace(r.Comment)
	line, r.off = strings.CutPrefix(strings.TrimSpace(line), "|")
	line = strings.TrimSpace(line)
	m := ruleHead.FindStringSubmatch(line + " ")
	if m == nil {
		return r, false
	}
	r.Direction, r.Action = strings.ToLower(m[1]), m[2]
	if r.Direction != spec.Group {
		if form := macroForm.FindStringSubmatch(m[2]); form != nil {
			r.Macro, r.Action = form[1], form[2]
		}
		r.Action = strings.ToUpper(r.Action)
	}
	rest := (line + " ")[len(m[0]):]
	for strings.TrimSpace(rest) != "" {
		m := ruleOption.FindStringSubmatch(rest)
		if m == nil || !r.set(m[1], m[2]) {
			return r, false
		}
		rest = rest[len(m[0]):]
	}
	return r, true
}

func (r *fileRule) set(option, value string) bool {
	switch strings.TrimLeft(option, "-") {
	case "i", "iface":
		r.Interface = value
	case "source":
		r.Source = canonical(value, spec.Addresses)
	case "dest":
		r.Dest = canonical(value, spec.Addresses)
	case "p", "proto":
		r.Proto = strings.ToLower(value)
	case "dport":
		r.Ports = canonical(value, spec.Ports)
	case "sport":
		r.SourcePorts = canonical(value, spec.Ports)
	case "log":
		r.Log = value
	case "icmp-type":
		r.ICMPType = value
	default:
		return false
	}
	return true
}

// canonical is a list as it is written here, or as it stands where it is none of plain addresses.
func canonical(value string, write func(string) (string, error)) string {
	if out, err := write(value); err == nil {
		return out
	}
	return value
}

// ruleLine is a rule of phoenix's as Proxmox writes it.
func ruleLine(r spec.Rule) string {
	action := r.Action
	if r.Macro != "" {
		action = r.Macro + "(" + r.Action + ")"
	}
	parts := []string{strings.ToUpper(r.Direction), action}
	for _, o := range [][2]string{{"-i", r.Interface}, {"-source", r.Source}, {"-dest", r.Dest}, {"-p", r.Proto},
		{"-dport", r.Ports}, {"-sport", r.SourcePorts},
		{"-log", r.Log}, {"-icmp-type", r.ICMPType}} {
		if o[1] != "" {
			parts = append(parts, o[0], o[1])
		}
	}
	return strings.Join(parts, " ") + " # " + strings.TrimSpace(marked+" "+strings.ReplaceAll(r.Comment, "#", "")) +
		"\n"
}

// setRules puts phoenix's rules where its first one stands or, where there is none, before all others. What others
// wrote stays where it is, but for what says the same as one of phoenix's and, with prune, for all of it.
func (f *filter) setRules(want []spec.Rule, prune bool) {
	var lines []string
	for _, r := range want {
		lines = append(lines, ruleLine(r))
	}
	put := f.part("rules") // there is one from now on
	put.end()
	for i := range f.parts {
		p := &f.parts[i]
		if p.name != "rules" {
			continue
		}
		kept, at := keptLines(p.lines, want, prune)
		p.lines = slices.Insert(kept, at, lines...)
		lines = nil
	}
}

// keptLines are those of a section without phoenix's rules, and where these go.
func keptLines(lines []string, want []spec.Rule, prune bool) (kept []string, at int) {
	ours, first := -1, -1
	for _, l := range lines {
		r, ok := parseRule(l)
		if ok && first < 0 {
			first = len(kept)
		}
		if ok && r.ours && ours < 0 {
			ours = len(kept)
		}
		if !ok || !r.ours && !prune && !repeated(r, want) {
			kept = append(kept, l)
		}
	}
	switch {
	case ours >= 0:
		return kept, ours
	case first >= 0:
		return kept, first
	}
	return kept, len(kept)
}

// repeated tells whether a rule that others wrote says the same as one of phoenix's.
func repeated(r fileRule, want []spec.Rule) bool {
	return !r.off && slices.ContainsFunc(want, func(w spec.Rule) bool { return w.Meaning() == r.Meaning() })
}
