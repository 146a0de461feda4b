package config

import (
	"path"
	"strings"
)

// cleanPath is the path without . and .., doubled and trailing slashes. The package path does no I/O.
func cleanPath(p string) string { return path.Clean(p) }

// within reports whether child is parent or below it; both are clean and absolute.
func within(child, parent string) bool {
	return child == parent || parent == "/" || strings.HasPrefix(child, parent+"/")
}

// absolute tells paths that are not absolute and clean; it reports whether the path is good.
func (c *checker) absolute(a At, key, p string) bool {
	switch {
	case p == "":
		if a.has(key) && !c.toldAt(a, key) {
			c.errorf(a, key, "write an absolute path", "is empty")
		}
		return false
	case !strings.HasPrefix(p, "/"):
		c.errorf(a, key, "begin it with /", "%q is not an absolute path", p)
		return false
	case strings.TrimSuffix(cleanPath(p), "/") != strings.TrimSuffix(p, "/"):
		c.errorf(a, key, "write "+cleanPath(p), "%q has . or .. or // in it", p)
		return false
	}
	return true
}
