package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/phoenix-hypervisor/phoenix/"

// allowed has, for each package, the packages of ours that it may import. A name stands for the packages below it too,
// where it ends in /. What is not in the table may import nothing of ours.
var allowed = map[string][]string{
	"cmd/phoenix":      {"internal/cli"},
	"internal/arch":    nil,
	"internal/diag":    nil,
	"internal/durable": nil,
	"internal/clean":   nil,
	"internal/beneath": nil,
	"internal/idshift": nil,
	"internal/bolt":    nil,
	"internal/keybox":  nil,
	// What a CA issued is read in its own container, past the lock of its database, and judged on the hypervisor.
	"internal/issued": {"internal/bolt", "internal/host"},
	// Which foreign rule drops a packet: pure.
	"internal/netfilter": nil,
	"internal/object":    {"internal/diag"},
	// The specs belong to object.
	"internal/object/spec": {"internal/diag", "internal/object"},
	"internal/plan":        pureBase,
	"internal/config":      append([]string{"internal/idrange"}, pureBase...),
	"internal/host":        {"internal/beneath", "internal/clean", "internal/durable", "internal/idshift"},
	// Who has which ids: pure, for whoever chooses, writes down or checks ranges.
	"internal/idrange": {"internal/object/spec"},
	// both runtimes move containers to other ids
	"internal/provider": append([]string{"internal/idrange", "internal/idshift"}, core...),
	// one provider; never a sibling
	"internal/provider/":            append([]string{"internal/bolt", "internal/issued"}, withDurable...),
	"internal/provider/all":         {"internal/provider", "internal/provider/"},
	"internal/provider/conformance": append([]string{"internal/provider"}, core...), // for tests
	"internal/provider/sandbox":     withDurable,                                    // for tests
	"internal/engine":               append([]string{"internal/provider"}, core...),
	// audit reads config's rules and findings, so that the file's and the system's are one list.
	// What needs a person, and the command that tells one.
	"internal/notify": {"internal/clean", "internal/host", "internal/object"},
	"internal/audit": {"internal/clean", "internal/config", "internal/object", "internal/object/spec",
		"internal/host", "internal/idrange", "internal/issued"},
	"internal/backup": {"internal/host", "internal/keybox"}, // runs in the container of the CA, as the audit does
	"internal/health": {"internal/clean", "internal/idrange", "internal/diag", "internal/object",
		"internal/netfilter", "internal/object/spec", "internal/host", "internal/issued"},
	"internal/agent": append([]string{"internal/clean", "internal/engine", "internal/health", "internal/issued",
		"internal/provider"}, core...),
	"internal/cli/view": append([]string{"internal/clean", "internal/engine", "internal/health", "internal/issued"},
		pureBase...),
	"internal/cli": append([]string{
		"internal/config", "internal/audit", "internal/backup", "internal/provider", "internal/provider/all",
		"internal/engine", "internal/health", "internal/agent", "internal/notify",
		"internal/clean", "internal/cli/view", "internal/idrange", "internal/idshift", "internal/issued",
		"docs", // what explain prints
	}, core...),
}

var (
	pureBase    = []string{"internal/diag", "internal/object", "internal/object/spec", "internal/plan"}
	core        = append([]string{"internal/host"}, pureBase...)
	withDurable = append([]string{"internal/provider", "internal/durable", "internal/keybox", "internal/idrange",
		"internal/idshift"}, core...)
)

// pure packages do no I/O and know no clock.
var pure = []string{"internal/object", "internal/object/spec", "internal/plan", "internal/config", "internal/diag",
	"internal/clean", "internal/idrange", "internal/netfilter"}

// parsers are the parts of net that do no I/O.
var parsers = []string{"JoinHostPort", "SplitHostPort", "ParseIP", "ParseMAC", "HardwareAddr"}

// starters are the packages besides engine and agent that start goroutines, and why.
var starters = map[string]string{
	"internal/host":                 "a file system that hangs is not waited for",
	"internal/provider/certificate": "the http-01 answer is served while the order waits for it",
	"internal/provider/sandbox":     "for tests",
}

// runners are the packages besides host that run commands, and why.
var runners = map[string]string{
	"internal/provider/conformance": "for tests",
	"internal/provider/sandbox":     "for tests",
}

// impure is what a pure package may not import. net/netip and net/url only parse; of net, parsers are permitted.
func impure(name string) bool {
	switch name {
	case "context", "io/ioutil", "syscall", "math/rand", "math/rand/v2", "crypto/rand":
		return true
	}
	return name == "os" || strings.HasPrefix(name, "os/") || strings.HasPrefix(name, "net/http") ||
		strings.HasPrefix(name, "golang.org/x/sys")
}

// source is one parsed file that is not a test.
type source struct {
	pkg  string // directory below the module
	file *ast.File
	fset *token.FileSet
}

func (s source) at(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", path.Join(s.pkg, filepath.Base(p.Filename)), p.Line)
}

// imports are the paths that the file imports.
func (s source) imports() map[string]ast.Node {
	out := map[string]ast.Node{}
	for _, i := range s.file.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			out[name] = i
		}
	}
	return out
}

// sources parses the module's own code: cmd and internal.
func sources(t *testing.T, root string) []source {
	t.Helper()
	var out []source
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(file))
			out = append(out, source{pkg: filepath.ToSlash(dir), file: parsed, fset: fset})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func all(t *testing.T) []source {
	t.Helper()
	out := sources(t, filepath.Join("..", ".."))
	if len(out) < 50 {
		t.Fatalf("only %d files were found: the test proves nothing", len(out))
	}
	return out
}

// rule gives what a package may import; false: the table does not know it.
func rule(pkg string) ([]string, bool) {
	if list, ok := allowed[pkg]; ok {
		return list, true
	}
	if dir := path.Dir(pkg) + "/"; dir == "internal/provider/" {
		return allowed[dir], true
	}
	return nil, false
}

func permitted(list []string, pkg string) bool {
	return slices.ContainsFunc(list, func(x string) bool {
		return x == pkg || strings.HasSuffix(x, "/") && strings.HasPrefix(pkg, x)
	})
}

// forbidden gives one line for each import that the table does not permit.
func forbidden(list []source) []string {
	var out []string
	for _, s := range list {
		permit, known := rule(s.pkg)
		if !known {
			out = append(out, s.pkg+" is not in the table")
			continue
		}
		for name, node := range s.imports() {
			ours, ok := strings.CutPrefix(name, module)
			if ok && !permitted(permit, ours) {
				out = append(out, fmt.Sprintf("%s: %s may not import %s", s.at(node), s.pkg, ours))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestImports(t *testing.T) {
	for _, problem := range forbidden(all(t)) {
		t.Error(problem)
	}
}

func TestPurePackages(t *testing.T) {
	for _, s := range all(t) {
		if !slices.Contains(pure, s.pkg) {
			continue
		}
		for name, node := range s.imports() {
			if impure(name) {
				t.Errorf("%s: %s is pure and may not import %s", s.at(node), s.pkg, name)
			}
		}
		for _, n := range uses(s.file, "net") { // the package: no variable is called so
			if !slices.Contains(parsers, n.Sel.Name) {
				t.Errorf("%s: %s is pure and may not use net.%s", s.at(n), s.pkg, n.Sel.Name)
			}
		}
		for _, n := range calls(s.file, "time", "Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker") {
			t.Errorf("%s: %s is pure and may not ask for the time", s.at(n), s.pkg)
		}
	}
}

// Goroutines are started by engine and agent only, commands by host only.
func TestWhoStartsWhat(t *testing.T) {
	for _, s := range all(t) {
		starts := s.pkg == "internal/engine" || s.pkg == "internal/agent"
		for _, n := range goroutines(s.file) {
			if !starts && starters[s.pkg] == "" {
				t.Errorf("%s: only engine and agent start goroutines", s.at(n))
			}
		}
		for name, node := range s.imports() {
			if name == "os/exec" && s.pkg != "internal/host" && runners[s.pkg] == "" {
				t.Errorf("%s: only host runs commands", s.at(node))
			}
		}
	}
}

// Every package says what it is for, in one place.
func TestPackagesAreDocumented(t *testing.T) {
	docs := map[string]int{}
	for _, s := range all(t) {
		docs[s.pkg] += 0
		if s.file.Doc != nil {
			docs[s.pkg]++
		}
	}
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one", pkg, n)
		}
	}
}

// goroutines are go statements and calls of a Go method (sync.WaitGroup, errgroup).
func goroutines(f *ast.File) []ast.Node {
	var out []ast.Node
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.GoStmt:
			out = append(out, x)
		case *ast.CallExpr:
			if sel, ok := x.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Go" {
				out = append(out, x)
			}
		}
		return true
	})
	return out
}

// uses are the places that use something of pkg.
func uses(f *ast.File, pkg string) []*ast.SelectorExpr {
	var out []*ast.SelectorExpr
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
				out = append(out, sel)
			}
		}
		return true
	})
	return out
}

// calls are the uses of pkg.NAME.
func calls(f *ast.File, pkg string, names ...string) []*ast.SelectorExpr {
	return slices.DeleteFunc(uses(f, pkg),
		func(s *ast.SelectorExpr) bool { return !slices.Contains(names, s.Sel.Name) })
}

// The rules themselves: a tree that breaks each of them once.
func TestTheRulesBite(t *testing.T) {
	root := t.TempDir()
	write := func(pkg, imports, body string) {
		dir := filepath.Join(root, pkg)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text := "package p\n\nimport (\n" + imports + ")\n\n" + body
		if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	own := func(pkg string) string { return "\t_ \"" + module + pkg + "\"\n" }
	write("cmd/phoenix", own("internal/engine"), "")
	write("internal/provider/dir", own("internal/provider/btrfs"), "")
	write("internal/provider/btrfs", own("internal/provider")+own("internal/durable"), "")
	write("internal/config", own("internal/host"), "")
	write("internal/view", "", "")
	write("internal/cli", own("internal/provider/dir")+own("internal/durable"),
		"var g interface{ Go(func()) }\n\nfunc f() { go f(); g.Go(f) }\n")
	want := []string{
		"cmd/phoenix/p.go:4: cmd/phoenix may not import internal/engine",
		"internal/cli/p.go:4: internal/cli may not import internal/provider/dir",
		"internal/cli/p.go:5: internal/cli may not import internal/durable",
		"internal/config/p.go:4: internal/config may not import internal/host",
		"internal/provider/dir/p.go:4: internal/provider/dir may not import internal/provider/btrfs",
		"internal/view is not in the table",
	}
	list := sources(t, root)
	if got := forbidden(list); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range list {
		if n := len(goroutines(s.file)); s.pkg == "internal/cli" && n != 2 {
			t.Errorf("%d of two goroutines were seen", n)
		}
	}
	for name, bad := range map[string]bool{"os": true, "os/exec": true, "net/http": true, "net/netip": false,
		"net/url": false, "context": true, "strings": false} {
		if impure(name) != bad {
			t.Errorf("impure(%q) is %v", name, !bad)
		}
	}
}
