package config

import (
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// place is where a value stands. pattern is path with * for the keys that are ids or names of the users'.
type place struct {
	path, pattern string
	line          int
}

// key goes to a member of an object.
func (p place) key(key string, line int) place {
	k := printable(key)
	return place{path: join(p.path, k), pattern: join(p.pattern, k), line: line}
}

// id goes to a member whose key is the users' own.
func (p place) id(key string, line int) place {
	return place{path: join(p.path, printable(key)), pattern: join(p.pattern, "*"), line: line}
}

// index goes to an element of a list.
func (p place) index(i, line int) place {
	return place{path: p.path + "[" + strconv.Itoa(i) + "]", pattern: p.pattern + "[*]", line: line}
}

// report adds a diagnostic at this place.
func (p place) report(list *diag.List, d diag.Diagnostic) {
	d.Line, d.Path = p.line, p.path
	*list = append(*list, d)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// printable quotes a key that could confuse a terminal or the reader of a path.
func printable(key string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.$", r)
	}
	if key != "" && strings.IndexFunc(key, func(r rune) bool { return !plain(r) }) < 0 {
		return key
	}
	return strconv.QuoteToASCII(key)
}
