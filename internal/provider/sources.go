package provider

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// components are the parts of a distribution that packages of a template come from.
var components = map[string]string{spec.Debian: "main", spec.Ubuntu: "main universe"}

// sourcesOf are the lines by which a suite is had: those of this host's apt, else Debian's mirrors of this host asked
// for that suite, else the distribution's own. None: mmdebstrap's defaults.
func sourcesOf(h fileReader, suite string) []string {
	if lines := hostSources(h, suite); lines != nil {
		return lines
	}
	if spec.DistributionOf(suite) == spec.Ubuntu {
		return nil // mmdebstrap knows Ubuntu's servers and keys by the suite
	}
	var out []string
	for _, r := range spec.Releases {
		if r.Name != spec.Debian {
			continue
		}
		for _, l := range hostSources(h, r.Suite) {
			out = append(out, strings.Replace(l, " "+r.Suite, " "+suite, 1))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fileReader is what is read of a host.
type fileReader interface {
	ReadFile(path string) ([]byte, error)
	ReadDir(path string) ([]string, error)
}

// hostSources are the lines (sources.list(5)) by which apt on this host gets the suite, its updates and its security
// fixes.
func hostSources(h fileReader, suite string) []string {
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

func entry(uri, name, suite string) string {
	return "deb " + uri + " " + name + " " + cmp.Or(components[spec.DistributionOf(suite)], components[spec.Debian])
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
			out = append(out, entry(f[0], f[1], suite))
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
					out = append(out, entry(uri, s, suite))
				}
			}
		}
	}
	return out
}

// Mirrors are the URLs from which apt on this host gets the suite itself; none: it says nothing of it.
func Mirrors(h fileReader, suite string) []string {
	var out []string
	for _, line := range hostSources(h, suite) {
		f := strings.Fields(line) // deb URL SUITE main
		if f[2] == suite && strings.HasPrefix(f[1], "http") && !slices.Contains(out, f[1]) {
			out = append(out, f[1])
		}
	}
	return out
}
