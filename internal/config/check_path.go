package config

import (
	"path"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
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

// mountPath reports a path that cannot be one end of a mount; else it returns the path as drivers take it. Whose / is,
// is told by others.
func (c *checker) mountPath(a At, key, p string) (clean string, ok bool) {
	if p == "" && (!a.has(key) || c.toldAt(a, key)) {
		return p, false
	}
	clean, fault := spec.MountPath(p)
	if fault == nil || p == "/" {
		return clean, true
	}
	c.errorf(a, key, fault.Hint, "%s", fault.Why)
	return p, false
}
