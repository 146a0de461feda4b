package config

import (
	"bytes"
	"slices"
	"strings"
)

// rewrite changes a JSON file in its text, so that everything that is not changed stays byte for byte as it was.
type rewrite struct {
	data  []byte // without the byte order mark
	edits []edit
	unit  string // of indentation
}

// edit replaces data[from:to]. Edits do not overlap.
type edit struct {
	from, to int
	text     string
}

func newRewrite(data []byte, root *node) *rewrite {
	w := &rewrite{data: data, unit: "    "}
	if len(root.members) > 0 {
		if gap := w.gap(root.from+1, root.members[0].from); strings.Contains(gap, "\n") {
			w.unit = gap[strings.LastIndex(gap, "\n")+1:]
		}
	}
	return w
}

// gap is the white space between two places, or empty where there is more than that.
func (w *rewrite) gap(from, to int) string {
	s := string(w.data[from:to])
	if strings.Trim(s, " \t\r\n") != "" {
		return ""
	}
	return s
}

func (w *rewrite) replace(from, to int, text string) {
	w.edits = append(w.edits, edit{from, to, text})
}

// result is the text with all edits.
func (w *rewrite) result() []byte {
	edits := slices.Clone(w.edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.from - b.from })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(w.data[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(w.data[at:])
	return out.Bytes()
}

// part is one element of a list or member of an object.
type part struct {
	from, to int
	drop     bool
}

// drop takes parts out of a list or object n, with the commas that they leave behind. It reports whether nothing is
// left.
func (w *rewrite) drop(n *node, parts []part) bool {
	first := slices.IndexFunc(parts, func(p part) bool { return !p.drop })
	if first < 0 {
		return true
	}
	if first > 0 {
		w.replace(parts[0].from, parts[first].from, "")
	}
	for i := first + 1; i < len(parts); i++ {
		if !parts[i].drop {
			continue
		}
		from := parts[i-1].to
		for i+1 < len(parts) && parts[i+1].drop {
			i++
		}
		w.replace(from, parts[i].to, "")
	}
	return false
}

// parts are the elements of a list or the members of an object.
func parts(n *node, drop func(i int) bool) []part {
	var out []part
	for i, m := range n.members {
		out = append(out, part{m.from, m.value.to, drop(i)})
	}
	for i, item := range n.items {
		out = append(out, part{item.from, item.to, drop(i)})
	}
	return out
}

// indent is the white space at the beginning of the line that a place is in.
func (w *rewrite) indent(at int) string {
	start := bytes.LastIndexByte(w.data[:at], '\n') + 1
	line := w.data[start:at]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// newline is how lines end here.
func (w *rewrite) newline() string {
	if bytes.Contains(w.data, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// field is a member of a new object; value is JSON.
type field struct{ key, value string }

// object writes a new object, over several lines where indent is not nil.
func (w *rewrite) object(fields []field, indent *string) string {
	var lines []string
	for _, f := range fields {
		lines = append(lines, `"`+f.key+`"`+w.colon()+f.value)
	}
	if indent == nil {
		return "{" + strings.Join(lines, ", ") + "}"
	}
	nl := w.newline() + *indent
	return "{" + nl + w.unit + strings.Join(lines, ","+nl+w.unit) + nl + "}"
}

// list writes a new list of objects for a key that stands at a place.
func (w *rewrite) list(objects [][]field, at int, lines bool) string {
	var out []string
	if !lines {
		for _, o := range objects {
			out = append(out, w.object(o, nil))
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	outer := w.indent(at)
	inner := outer + w.unit
	for _, o := range objects {
		out = append(out, w.object(o, &inner))
	}
	nl := w.newline()
	return "[" + nl + inner + strings.Join(out, ","+nl+inner) + nl + outer + "]"
}

// extend puts objects at the end of a list, written as those that are there.
func (w *rewrite) extend(n *node, objects [][]field, at int, lines bool) {
	if len(n.items) == 0 {
		w.replace(n.from, n.to, w.list(objects, at, lines))
		return
	}
	first, last := n.items[0], n.items[len(n.items)-1]
	before := w.gap(n.from+1, first.from)
	var indent *string
	if own := w.indent(first.from); bytes.Contains(w.data[first.from:first.to], []byte("\n")) {
		indent = &own
	}
	var b strings.Builder
	for _, o := range objects {
		b.WriteString(",")
		if strings.Contains(before, "\n") {
			b.WriteString(before)
		} else {
			b.WriteString(" ")
		}
		b.WriteString(w.object(o, indent))
	}
	w.replace(last.to, last.to, b.String())
}

// lines reports whether the members of an object stand in lines of their own.
func (w *rewrite) lines(n *node) bool {
	return len(n.members) > 0 && strings.Contains(w.gap(n.from+1, n.members[0].from), "\n")
}

// deeper is the indentation of what is inside of an object; nil: it stands in one line.
func (w *rewrite) deeper(indent *string) *string {
	if indent == nil {
		return nil
	}
	inner := *indent + w.unit
	return &inner
}

// one writes a list of one object, as the member of an object with that indentation.
func (w *rewrite) one(fields []field, indent *string) string {
	if indent == nil {
		return "[" + w.object(fields, nil) + "]"
	}
	outer := *w.deeper(indent)
	inner := outer + w.unit
	nl := w.newline()
	return "[" + nl + inner + w.object(fields, &inner) + nl + outer + "]"
}

// appendMember puts a member at the end of an object; value writes it for the indentation of its line (nil: it goes in
// one line).
func (w *rewrite) appendMember(n *node, key string, value func(indent *string) string) {
	colon := w.colon()
	if len(n.members) == 0 {
		outer := w.indent(n.from)
		inner := outer + w.unit
		w.replace(n.from, n.to, "{"+w.newline()+inner+quoted(key)+colon+value(&inner)+w.newline()+outer+"}")
		return
	}
	first, last := n.members[0], n.members[len(n.members)-1]
	between := w.gap(n.from+1, first.from)
	var indent *string
	if w.lines(n) {
		own := w.indent(first.from)
		indent = &own
	} else if between == "" && colon == ": " {
		between = " "
	}
	w.replace(last.value.to, last.value.to, ","+between+quoted(key)+colon+value(indent))
}

// remove takes parts out of a list or object.
func (w *rewrite) remove(n *node, drop func(i int) bool) {
	all := parts(n, drop)
	if !slices.ContainsFunc(all, func(p part) bool { return p.drop }) || !w.drop(n, all) {
		return
	}
	empty := "[]"
	if n.kind == anObject {
		empty = "{}"
	}
	w.replace(n.from, n.to, empty)
}

// colon is what stands between a key and its value here.
func (w *rewrite) colon() string {
	if !bytes.Contains(w.data, []byte(`": `)) && bytes.Contains(w.data, []byte(`":`)) {
		return ":"
	}
	return ": "
}

// texts are the files as they are rewritten, and where their containers and the hypervisor are.
type texts struct {
	files      map[string]*rewrite
	containers spot // lxc_configs
	hypervisor spot
	text       *rewrite // of the containers' file
}

// texts begins to rewrite the files that were read.
func (l *loader) texts(files []File) texts {
	out := texts{files: map[string]*rewrite{}}
	for _, t := range l.trees {
		i := slices.IndexFunc(files, func(f File) bool { return f.Name == t.file })
		w := newRewrite(bytes.TrimPrefix(files[i].Data, []byte(bom)), t.root)
		out.files[t.file] = w
		s := spot{file: t.file, at: place{line: t.root.line}, n: t.root}
		if t.containers {
			out.containers, out.text = s.get("lxc_configs"), w
		} else {
			out.hypervisor = s
		}
	}
	return out
}
