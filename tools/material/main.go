// Command material makes what a package of phoenix carries besides the programs.
//
//	material man DIR            manual pages of all commands
//	material notices BINARY...  on standard output: Debian's copyright file, with the licence of each module inside
//	material undated FILE       on standard output: a CycloneDX document without the time it was made at
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra/doc"
	"golang.org/x/mod/module"

	"github.com/phoenix-hypervisor/phoenix/internal/cli"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "material:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "man":
		return pages(args[1])
	case len(args) >= 2 && args[0] == "notices":
		return notices(stdout, args[1:])
	case len(args) == 2 && args[0] == "undated":
		return undated(stdout, args[1])
	}
	return errors.New("usage: material man DIR | notices BINARY... | undated FILE")
}

// pages writes the manual pages. They carry no date: the same commands give the same bytes.
func pages(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := cli.Commands()
	root.DisableAutoGenTag = true
	epoch := time.Unix(0, 0).UTC()
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Manual: "phoenix", Source: "phoenix", Date: &epoch}, dir)
}

// licenceFile is what modules call the text of their licence, and notices that have to go along with it.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-._].*)?$`)

// notices writes whose work is in the binaries, and under which terms: for each module that the linker names, the
// files in which its authors say so. Modules below the root of a repository sometimes have none; they are named.
func notices(w io.Writer, binaries []string) error {
	modules := map[module.Version]bool{}
	for _, path := range binaries {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range append(info.Deps, &info.Main) {
			for m.Replace != nil {
				m = m.Replace
			}
			if !own(m) {
				modules[module.Version{Path: m.Path, Version: m.Version}] = true
			}
		}
	}
	fmt.Fprintf(w, "phoenix is under the Apache License 2.0, on Debian in /usr/share/common-licenses/Apache-2.0.\n\n"+
		"The programs of this package hold code of these modules besides, and of Go's standard library.\n")
	dirs, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return err
	}
	root, cache, _ := strings.Cut(strings.TrimSpace(string(dirs)), "\n")
	if err := text(w, "Go "+runtime.Version(), root); err != nil {
		return err
	}
	for _, m := range slices.SortedFunc(maps.Keys(modules), func(a, b module.Version) int {
		return strings.Compare(a.Path+a.Version, b.Path+b.Version)
	}) {
		path, err := module.EscapePath(m.Path)
		if err != nil {
			return err
		}
		version, err := module.EscapeVersion(m.Version)
		if err != nil {
			return err
		}
		if err := text(w, m.Path+" "+m.Version, filepath.Join(cache, path+"@"+version)); err != nil {
			return err
		}
	}
	return nil
}

// own is whether a module is phoenix's, or the empty one beside a pinned program.
func own(m *debug.Module) bool {
	return strings.HasPrefix(m.Path, "github.com/phoenix-hypervisor/phoenix") || m.Version == "(devel)"
}

// text writes the licence files of a module.
func text(w io.Writer, name, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(w, "\n%s\n%s: %s\n%[1]s\n\n%[4]s\n", strings.Repeat("-", 78), name, e.Name(),
			strings.TrimSpace(string(raw)))
	}
	if !found {
		fmt.Fprintf(w, "\n%s\n%s: the module holds no file with its licence; its repository does.\n", strings.Repeat("-", 78),
			name)
	}
	return nil
}

// undated takes out of a bill of materials when and where it was made: two of the same program are equal.
func undated(w io.Writer, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var bill map[string]any
	if err := json.Unmarshal(raw, &bill); err != nil {
		return err
	}
	if about, ok := bill["metadata"].(map[string]any); ok {
		delete(about, "timestamp")
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(bill)
}
