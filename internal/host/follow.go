package host

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Follow gives the file that a link leads to, over any links in its directories, so that what is judged is what
// programs open.
func Follow(h Host, name string) (string, error) {
	resolved := "/"
	todo := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	for links := 0; len(todo) > 0; {
		next := path.Join(resolved, todo[0])
		todo = todo[1:]
		m, err := h.Lstat(next)
		if err != nil {
			return "", err
		}
		if m.Mode&fs.ModeSymlink == 0 {
			resolved = next
			continue
		}
		target, err := h.Readlink(next)
		if err != nil {
			return "", err
		}
		if links++; links > 40 { // as the kernel: path_resolution(7)
			return "", &fs.PathError{Op: "follow", Path: name, Err: errors.New("too many links")}
		}
		if path.IsAbs(target) {
			resolved = "/"
		}
		todo = append(strings.Split(strings.Trim(target, "/"), "/"), todo...)
	}
	return resolved, nil
}
