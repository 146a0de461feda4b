// Package clean makes what a container says harmless before anybody keeps, writes down or shows it. Root in a container
// is hostile: a name, an error or a log line of its is data, which must not move a cursor, forge a row, turn text
// around or fill the memory. It is pure, and used where such text enters: at the agent's client, where commands run in
// containers, and where servers in them answer.
package clean

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// more stands at the end of what was cut off.
const more = "…"

// marks is how many combining marks may stand on one character: with more of them text runs into other rows.
const marks = 2

// Line is s as one line of at most limit bytes: what is not printable is shown as ?, what would break the line is a
// blank.
func Line(s string, limit int) string { return text(s, limit, false) }

// Text is Line that may have several lines, ended by \n alone.
func Text(s string, limit int) string { return text(s, limit, true) }

func text(s string, limit int, lines bool) string {
	if len(s) <= limit && plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(min(len(s), limit))
	on := 0 // combining marks on the character before
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		bad := r == utf8.RuneError && size <= 1
		i += size
		r = shown(r, lines)
		if bad {
			r = '?'
		}
		if on++; !unicode.Is(unicode.M, r) {
			on = 0
		}
		if on > marks {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			return cut(b.String(), limit)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// plain is whether all of s is printable ASCII, as it nearly always is.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// shown is what stands for a character.
func shown(r rune, lines bool) rune {
	switch {
	case r == '\n' && lines:
		return r
	case r == '\n', r == '\t', r == '\r', unicode.Is(unicode.Zs, r), unicode.Is(unicode.Zl, r),
		unicode.Is(unicode.Zp, r):
		return ' '
	case !unicode.IsPrint(r), unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r),
		unicode.Is(unicode.Variation_Selector, r):
		return '?' // control characters, what changes the direction of writing, what takes no room
	}
	return r
}

// cut shortens s, which is clean, to limit bytes, with a sign that something is missing.
func cut(s string, limit int) string {
	end := max(0, limit-len(more))
	for end > 0 && end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:min(end, len(s))] + more
}
