package provider

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// hostSources are the lines (sources.list(5)) by which apt on this host gets the suite, its updates and its security
// fixes; none: mmdebstrap's own defaults.
func hostSources(h host.Host, suite string) []string {
	const dir = "/etc/apt/sources.list.d"
	paths := []string{"/etc/apt/sources.list"}
	names, _ := h.ReadDir(dir) // no directory, no files
	for _, n := range names {
		paths = append(paths, filepath.Join(dir, n))
	}
	var lines []string
	for _, p := range paths {
		content, err := h.ReadFile(p)
		if err != nil {
			continue
		}
		if filepath.Ext(p) == ".sources" {
			lines = append(lines, stanzas(string(content), suite)...)
		} else if filepath.Ext(p) == ".list" {
			lines = append(lines, oneLiners(string(content), suite)...)
		}
	}
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, " "+suite+" ") }) {
		return nil
	}
	return lines
}

func wantedSuite(name, suite string) bool {
	return name == suite || name == suite+"-updates" || name == suite+"-security"
}

// oneLiners reads "deb [options] URI suite component…".
func oneLiners(content, suite string) []string {
	var out []string
	for line := range strings.Lines(content) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		f := strings.Fields(rest)
		if kind == "deb" && len(f) >= 3 && wantedSuite(f[1], suite) && slices.Contains(f[2:], "main") {
			out = append(out, "deb "+f[0]+" "+f[1]+" main")
		}
	}
	return out
}

// stanzas reads the deb822 form.
func stanzas(content, suite string) []string {
	var out []string
	for stanza := range strings.SplitSeq(content, "\n\n") {
		field := make(map[string][]string)
		for line := range strings.Lines(stanza) {
			if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
				field[strings.ToLower(key)] = strings.Fields(value)
			}
		}
		if !slices.Contains(field["types"], "deb") || !slices.Contains(field["components"], "main") ||
			slices.Contains(field["enabled"], "no") {
			continue
		}
		for _, uri := range field["uris"] {
			for _, s := range field["suites"] {
				if wantedSuite(s, suite) {
					out = append(out, "deb "+uri+" "+s+" main")
				}
			}
		}
	}
	return out
}
