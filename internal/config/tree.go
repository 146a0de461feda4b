package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// maxDepth bounds how deep values may be nested, so that a hostile file cannot exhaust the stack.
const maxDepth = 64

// kind of a JSON value, as people call it.
type kind string

const (
	anObject kind = "an object"
	aList    kind = "a list"
	aString  kind = "a string"
	aNumber  kind = "a number"
	aBool    kind = "true or false"
	aNull    kind = "null"
)

// node is a JSON value (RFC 8259) that knows its line.
type node struct {
	kind    kind
	line    int
	from    int    // where it begins in the file, in bytes, without the byte order mark
	to      int    // behind its end
	text    string // the decoded string, or the literal as it stands in the file
	members []member
	items   []*node
}

type member struct {
	key   string
	line  int
	from  int // where the key begins
	value *node
}

func (n *node) member(key string) *node {
	for _, m := range n.members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// syntaxError ends the reading of a file. It never carries text of the file: that could be a secret.
type syntaxError struct {
	line          int
	summary, hint string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.summary) }

// parser reads one file, strictly: no comments, no trailing commas, UTF-8 only, no key twice.
type parser struct {
	file string
	data []byte
	pos  int
	line int
	list *diag.List
}

// parse returns nil where the file is not JSON; list has the reason then.
func parse(f File, diags *diag.List) *node {
	p := &parser{file: f.Name, data: bytes.TrimPrefix(f.Data, []byte("\ufeff")), line: 1, list: diags}
	n, err := p.whole()
	if err == nil {
		if p.skip(); p.pos < len(p.data) {
			err = p.fail("there is more after the end of the value", "a file has one { … }; look for a } too many")
		}
	}
	if err != nil {
		*diags = append(*diags, diag.Diagnostic{File: f.Name, Line: err.line, Summary: err.summary, Hint: err.hint})
		return nil
	}
	return n
}

// whole reads the one value of a file. What is no text at all is told as what it is.
func (p *parser) whole() (*node, *syntaxError) {
	switch {
	case len(bytes.TrimSpace(p.data)) == 0:
		return nil, p.fail("the file is empty", "phoenix schema says what can be in it")
	case bytes.HasPrefix(p.data, []byte("\xff\xfe")), bytes.HasPrefix(p.data, []byte("\xfe\xff")),
		bytes.IndexByte(p.data[:min(len(p.data), 64)], 0) >= 0:
		return nil, p.fail("this is not UTF-8 text; it looks like UTF-16", "save the file as UTF-8")
	}
	return p.value(place{}, 0)
}

func (p *parser) fail(summary, hint string) *syntaxError {
	return &syntaxError{line: p.line, summary: summary, hint: hint}
}

func (p *parser) skip() {
	for ; p.pos < len(p.data); p.pos++ {
		switch p.data[p.pos] {
		case '\n':
			p.line++
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}

// peek is the next byte that is not white space, or 0 at the end.
func (p *parser) peek() byte {
	if p.skip(); p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

func (p *parser) value(at place, depth int) (*node, *syntaxError) {
	c := p.peek()
	n := &node{line: p.line, from: p.pos}
	err := p.fill(n, c, at, depth)
	n.to = p.pos
	return n, err
}

// fill reads a value that begins with c.
func (p *parser) fill(n *node, c byte, at place, depth int) *syntaxError {
	switch {
	case depth > maxDepth:
		return p.fail(fmt.Sprintf("values are nested more than %d deep", maxDepth), "")
	case c == 0:
		return p.fail("the file ends where a value should be", "is the file cut off?")
	case c == '{':
		n.kind = anObject
		return p.object(n, at, depth)
	case c == '[':
		n.kind = aList
		return p.array(n, at, depth)
	case c == '"':
		s, err := p.string()
		n.kind, n.text = aString, s
		return err
	}
	return p.literal(n)
}

func (p *parser) object(n *node, at place, depth int) *syntaxError {
	p.pos++
	seen := map[string]int{}
	for first := true; ; first = false {
		if p.peek() == '}' && first {
			p.pos++
			return nil
		}
		key, line, from, err := p.key(n.line, first)
		if err != nil {
			return err
		}
		child := at.key(key, line)
		v, err := p.value(child, depth+1)
		if err != nil {
			return err
		}
		if before, twice := seen[key]; twice {
			child.report(p.list,
				diag.Diagnostic{File: p.file, Summary: fmt.Sprintf("the key stands twice, first in line %d", before),
					Hint: "keep one of them: readers disagree which one counts"})
		} else {
			seen[key] = line
			n.members = append(n.members, member{key: key, line: line, from: from, value: v})
		}
		if more, err := p.more('}', "{", n.line); !more {
			return err
		}
	}
}

func (p *parser) key(opened int, first bool) (key string, line, from int, err *syntaxError) {
	switch c := p.peek(); {
	case c == 0:
		return "", 0, 0, p.fail(fmt.Sprintf("the file ends, but the { of line %d is never closed", opened),
			"add the missing }")
	case c == '}' && !first:
		return "", 0, 0, p.fail("a comma before }", "remove the comma behind the last value")
	case c == '/' || c == '#':
		return "", 0, 0, p.fail("JSON has no comments", `remove it, or make it a key: "_comment": "…"`)
	case c != '"':
		return "", 0, 0, p.fail("a key in double quotes should be here", "")
	}
	line, from = p.line, p.pos
	if key, err = p.string(); err != nil {
		return "", 0, 0, err
	}
	if p.peek() != ':' {
		return "", 0, 0, p.fail("a : should be behind the key", "")
	}
	p.pos++
	return key, line, from, nil
}

func (p *parser) array(n *node, at place, depth int) *syntaxError {
	p.pos++
	if p.peek() == ']' {
		p.pos++
		return nil
	}
	for {
		if c := p.peek(); c == ']' {
			return p.fail("a comma before ]", "remove the comma behind the last value")
		}
		v, err := p.value(at.index(len(n.items), p.line), depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, v)
		if more, err := p.more(']', "[", n.line); !more {
			return err
		}
	}
}

// more reads what stands behind a value inside an object or a list: a comma (true) or the end.
func (p *parser) more(closing byte, opening string, opened int) (bool, *syntaxError) {
	last := p.line // a forgotten comma belongs to the line of the value before it
	switch p.peek() {
	case ',':
		p.pos++
		return true, nil
	case closing:
		p.pos++
		return false, nil
	case 0:
		return false, p.fail(fmt.Sprintf("the file ends, but the %s of line %d is never closed", opening, opened),
			fmt.Sprintf("add the missing %c", closing))
	case '/', '#':
		return false, p.fail("JSON has no comments", `remove it, or make it a key: "_comment": "…"`)
	}
	p.line = last
	return false, p.fail(fmt.Sprintf("a comma or %c should be behind this value", closing), "")
}

func (p *parser) string() (string, *syntaxError) {
	start := p.pos
	plain := true
	for p.pos++; ; p.pos++ {
		if p.pos >= len(p.data) {
			return "", p.fail("the file ends inside a string", "add the missing double quote")
		}
		switch c := p.data[p.pos]; {
		case c == '"':
			p.pos++
			return p.decoded(p.data[start:p.pos], plain)
		case c < 0x20:
			return "", p.fail("a line break or another control character inside a string",
				"is a double quote missing? write a tab as \\t")
		case c == '\\':
			plain = false
			p.pos++
		}
	}
}

func (p *parser) decoded(raw []byte, plain bool) (string, *syntaxError) {
	if !utf8.Valid(raw) {
		return "", p.fail("a string that is not UTF-8", "save the file as UTF-8")
	}
	if plain {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", p.fail("an escape in a string that JSON does not know", `write a backslash as \\`)
	}
	if strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) {
		return "", p.fail("half of a surrogate pair in a string", "write the character itself, in UTF-8")
	}
	return s, nil
}

func (p *parser) literal(n *node) *syntaxError {
	start := p.pos
	for p.pos < len(p.data) && !slices.Contains([]byte(" \t\r\n,:]}[{\""), p.data[p.pos]) {
		p.pos++
	}
	n.text = string(p.data[start:p.pos])
	switch {
	case n.text == "true" || n.text == "false":
		n.kind = aBool
	case n.text == "null":
		n.kind = aNull
	case n.text != "" && json.Valid([]byte(n.text)):
		n.kind = aNumber
	case strings.HasPrefix(n.text, "//") || strings.HasPrefix(n.text, "#"):
		return p.fail("JSON has no comments", `remove it, or make it a key: "_comment": "…"`)
	default:
		return p.fail("this is not a JSON value", "strings stand in double quotes; true, false and null are in lower "+
			"case; numbers have no leading zero or +")
	}
	return nil
}
