package pve

import (
	"regexp"
	"slices"
	"strings"
)

// conf is a container's file below /etc/pve/lxc. It is kept line by line, so that what is not touched is printed as it
// was read: parse and text are inverse for every input.
type conf struct {
	sections []section // the first has no name and is always there
	making   bool      // phoenix was making it, and did not come to the end
}

// section is the present state (no name), what waits for a restart (pending), or a snapshot.
type section struct {
	name  string
	lines []line
}

// line is one line. What Proxmox would not understand has neither key nor comment.
type line struct {
	text    string // as it stands in the file, its end included
	key     string // empty: a comment, an empty line, or none that Proxmox understands
	value   string
	comment bool // part of the description
}

// pending is the name of the section with what waits for a restart.
const pending = "pve:pending"

// What PVE::LXC::Config reads, in the order in which it tries.
var (
	sectionLine = regexp.MustCompile(`(?i)^\[(pve:pending|[a-z][a-z0-9_-]+)\]\s*$`)
	rawLine     = regexp.MustCompile(`^(lxc\.[a-z0-9_.-]+)(?::|\s*=)\s*(.*?)\s*$`)
	keyLine     = regexp.MustCompile(`^([a-z][a-z_]*\d*):\s*(.+?)\s*$`)
)

func parseConf(text string) *conf {
	c := &conf{sections: []section{{}}}
	for raw := range strings.Lines(text) {
		bare := strings.TrimSuffix(raw, "\n")
		if m := sectionLine.FindStringSubmatch(bare); m != nil {
			c.sections = append(c.sections, section{name: strings.ToLower(m[1]), lines: []line{{text: raw}}})
			if !strings.EqualFold(m[1], pending) {
				c.sections[len(c.sections)-1].name = m[1]
			}
			continue
		}
		last := &c.sections[len(c.sections)-1]
		last.lines = append(last.lines, parseLine(raw, bare))
	}
	return c
}

func parseLine(raw, bare string) line {
	l := line{text: raw}
	if rest, ok := strings.CutPrefix(bare, "#"); ok {
		l.comment, l.value = true, decodeText(rest)
		return l
	}
	for _, form := range []*regexp.Regexp{rawLine, keyLine} {
		if m := form.FindStringSubmatch(bare); m != nil {
			l.key, l.value = m[1], m[2]
			return l
		}
	}
	return l
}

// text is the file.
func (c *conf) text() string {
	var b strings.Builder
	for _, s := range c.sections {
		for _, l := range s.lines {
			b.WriteString(l.text)
		}
	}
	return b.String()
}

func (l line) raw() bool { return strings.HasPrefix(l.key, "lxc.") }

// current is the present state.
func (c *conf) current() *section { return &c.sections[0] }

// section gives a section by its name; nil: there is none.
func (c *conf) section(name string) *section {
	for i := range c.sections {
		if c.sections[i].name == name {
			return &c.sections[i]
		}
	}
	return nil
}

// snapshots are the names of the snapshots.
func (c *conf) snapshots() []string {
	var out []string
	for _, s := range c.sections[1:] {
		if s.name != pending {
			out = append(out, s.name)
		}
	}
	return out
}

// get is a key's value; empty: the section has none. Of several lines Proxmox takes the last.
func (s *section) get(key string) string {
	for _, l := range slices.Backward(s.lines) {
		if l.key == key {
			return l.value
		}
	}
	return ""
}

// keys are the keys that are no raw lxc options, each once, in the order of the file.
func (s *section) keys() []string {
	var out []string
	for _, l := range s.lines {
		if l.key != "" && !l.raw() && !slices.Contains(out, l.key) {
			out = append(out, l.key)
		}
	}
	return out
}

// options are the raw lxc options.
func (s *section) options() []line {
	return slices.DeleteFunc(slices.Clone(s.lines), func(l line) bool { return !l.raw() })
}

// description is what people see as the container's notes.
func (s *section) description() []string {
	var out []string
	for _, l := range s.lines {
		if l.comment {
			out = append(out, l.value)
		}
	}
	return out
}

// waiting are the keys that have another value after the next restart, with that value; empty: the key goes away.
func (c *conf) waiting() map[string]string {
	out := map[string]string{}
	s := c.section(pending)
	if s == nil {
		return out
	}
	for _, key := range s.keys() {
		if key != "delete" {
			out[key] = s.get(key)
		}
	}
	for _, key := range strings.FieldsFunc(s.get("delete"),
		func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
		out[strings.TrimPrefix(key, "!")] = "" // an exclamation mark: by force
	}
	return out
}

// then is what a key will be after the next restart.
func (c *conf) then(key string) string {
	if v, waits := c.waiting()[key]; waits {
		return v
	}
	return c.current().get(key)
}

// keys are those that there will be after the next restart.
func (c *conf) keys() []string {
	out := c.current().keys()
	for key := range c.waiting() {
		if !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(out, func(key string) bool { return c.then(key) == "" })
}

// setOptions puts raw lxc options in the place of those that are there: at the end of the first section, which is where
// Proxmox has them. At the end of the file they would belong to a snapshot.
func (c *conf) setOptions(options []line) {
	s := c.current()
	kept := slices.DeleteFunc(s.lines, func(l line) bool { return l.raw() })
	at := len(kept)
	for at > 0 && strings.TrimSpace(kept[at-1].text) == "" {
		at-- // before the empty line that parts it from the next section
	}
	if at > 0 && !strings.HasSuffix(kept[at-1].text, "\n") {
		kept[at-1].text += "\n"
	}
	var added []line
	for _, o := range options {
		o.text = o.key + ": " + o.value + "\n"
		added = append(added, o)
	}
	s.lines = slices.Insert(kept, at, added...)
}

// drop takes keys out of the present state.
func (c *conf) drop(keys ...string) {
	s := c.current()
	s.lines = slices.DeleteFunc(s.lines, func(l line) bool { return slices.Contains(keys, l.key) })
}

// replace gives a key of the present state another value.
func (c *conf) replace(key, value string) {
	s := c.current()
	for i := range s.lines {
		if s.lines[i].key == key {
			s.lines[i] = line{text: key + ": " + value + "\n", key: key, value: value}
		}
	}
}

// setDescription puts other notes in the place of those that are there.
func (c *conf) setDescription(notes []string) {
	s := c.current()
	rest := slices.DeleteFunc(s.lines, func(l line) bool { return l.comment })
	var lines []line
	for _, n := range notes {
		lines = append(lines, line{text: "#" + encodeText(n) + "\n", value: n, comment: true})
	}
	s.lines = append(lines, rest...)
}

// encodeText writes a description as Proxmox does: bytes that are not printable ASCII, and the colon, percent-encoded.
func encodeText(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == ':' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

var encoded = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func decodeText(s string) string {
	return encoded.ReplaceAllStringFunc(s,
		func(x string) string { return string([]byte{nibble(x[1])<<4 | nibble(x[2])}) })
}

func nibble(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
