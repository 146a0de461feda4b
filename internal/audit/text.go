package audit

import (
	"bytes"
	"io/fs"
	"path"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// textLimit is the size of the largest file that is taken for a text, in bytes.
const textLimit = 256 << 10

// text reads a file if it is a text of a reasonable size. What it reads goes nowhere.
func text(h host.Host, name string) (string, bool) {
	m, err := h.Lstat(name)
	if err == nil && m.Mode&fs.ModeSymlink != 0 {
		if real, err2 := host.Follow(h, name); err2 == nil {
			name = real
			m, err = h.Lstat(name)
		}
	}
	if err != nil || !m.Mode.IsRegular() || m.Size > textLimit {
		return "", false
	}
	b, err := h.ReadFile(name)
	return string(b), err == nil && !bytes.ContainsRune(b, 0)
}

// texts are the text files of directories, by their path, in order; a name may be a file too. Directories are not gone
// down into, but for the drop-ins of units.
func texts(h host.Host, names ...string) (paths, contents []string) {
	for _, name := range names {
		entries, err := h.ReadDir(name)
		if err != nil {
			entries = []string{""}
		}
		for _, e := range entries {
			p := path.Join(name, e)
			if strings.HasSuffix(e, ".service.d") {
				more, contentsOf := texts(h, p)
				paths, contents = append(paths, more...), append(contents, contentsOf...)
			} else if content, ok := text(h, p); ok {
				paths, contents = append(paths, p), append(contents, content)
			}
		}
	}
	return paths, contents
}

// Scripts looks for secrets and for connections that are not verified in scripts and unit files. A name is a file or a
// directory. The files are the hypervisor's unless they belong to a container.
func Scripts(h host.Host, owner string, names ...string) Seen {
	s := Seen{Audit: true}
	paths, contents := texts(h, names...)
	for i, p := range paths {
		n := 0
		for line := range strings.Lines(contents[i]) {
			n++
			before := len(s.Sights)
			if what := secretIn(line); what != "" {
				s.add(ruleSecretText, owner, "change it, and let the program read it from a file that only it can "+
					"read (LoadCredential= in a unit)", "%s line %d has %s", p, n, what)
			}
			if trimmed := strings.TrimSpace(line); noVerify.MatchString(trimmed) && !strings.HasPrefix(trimmed, "#") {
				s.add(ruleNoVerify, owner, "trust the root (feature trusted_ca) and verify",
					"%s line %d does not verify its peer", p, n)
			}
			for j := before; owner == Hypervisor && j < len(s.Sights); j++ {
				s.Sights[j].File, s.Sights[j].Line = p, n
			}
		}
	}
	return s
}

// Hypervisor is the object of what is about none of the containers.
const Hypervisor = "hypervisor"
