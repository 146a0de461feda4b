package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// remedies finds every text in the code that says what to do, fix: and hint: of checks, findings and errors, by the
// places where such texts are written: arguments of functions that have a parameter of that name, and fields and
// variables of that name. What is put together at run time has an X in it.
type remedies struct {
	files  []*ast.File
	pkgs   []string // of each file, its directory below internal
	fset   *token.FileSet
	funcs  map[string][]*ast.FuncDecl // by directory and name
	values map[string]ast.Expr        // constants and variables of packages, by directory and name
	sinks  map[string]int             // the parameter that says what to do, by directory and name of the function
	texts  map[string][]string        // what was found, and where
}

var remedyNames = []string{"hint", "fix", "Hint", "Fix", "Remedy", "todo"}

func findRemedies(t *testing.T) map[string][]string {
	t.Helper()
	r := &remedies{fset: token.NewFileSet(), funcs: map[string][]*ast.FuncDecl{}, values: map[string]ast.Expr{},
		sinks: map[string]int{"cli.hint": 0, "config.element": -1},
		texts: map[string][]string{}}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") ||
			strings.Contains(file, "conformance/") || strings.Contains(file, "sandbox/") {
			return err
		}
		parsed, err := parser.ParseFile(r.fset, file, nil, 0)
		if err == nil {
			r.files, r.pkgs = append(r.files, parsed), append(r.pkgs, filepath.Base(filepath.Dir(file)))
		}
		return err
	})
	if err != nil || len(r.files) < 100 {
		t.Fatalf("%d files: %v", len(r.files), err)
	}
	for i := range r.files {
		r.declarations(i)
	}
	for i := range r.files {
		r.walk(i)
	}
	return r.texts
}

func (r *remedies) declarations(i int) {
	pkg := r.pkgs[i] + "."
	for _, d := range r.files[i].Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			r.funcs[pkg+d.Name.Name] = append(r.funcs[pkg+d.Name.Name], d)
			at := 0
			for _, p := range d.Type.Params.List {
				for _, name := range p.Names {
					if kind, _ := p.Type.(*ast.Ident); kind != nil && kind.Name == "string" &&
						slices.Contains(remedyNames, name.Name) {
						r.sinks[pkg+d.Name.Name] = at
					}
					at++
				}
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if v, ok := s.(*ast.ValueSpec); ok && len(v.Values) == len(v.Names) {
					for n, name := range v.Names {
						r.values[pkg+name.Name] = v.Values[n]
					}
				}
			}
		}
	}
}

func (r *remedies) walk(i int) {
	for _, d := range r.files[i].Decls {
		ast.Inspect(d, func(n ast.Node) bool {
			within, _ := d.(*ast.FuncDecl)
			s := scope{r, r.pkgs[i], within, 0}
			switch n := n.(type) {
			case *ast.CallExpr:
				if at, ok := r.sinks[s.callee(n)]; ok && at >= 0 && at < len(n.Args) {
					s.take(n.Args[at])
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && slices.Contains(remedyNames, key.Name) {
					s.take(n.Value)
				}
			case *ast.AssignStmt:
				for k, left := range n.Lhs {
					if field, ok := left.(*ast.SelectorExpr); ok && slices.Contains(remedyNames, field.Sel.Name) &&
						len(n.Rhs) == len(n.Lhs) {
						s.take(n.Rhs[k])
					}
				}
			case *ast.CompositeLit:
				if s.pkg == "agent" && typeName(n.Type) == "hint" || s.pkg == "agent" && n.Type == nil &&
					len(n.Elts) == 3 {
					for _, e := range n.Elts[1:] {
						s.take(e)
					}
				}
			}
			return true
		})
	}
}

func typeName(e ast.Expr) string {
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// scope is where an expression stands.
type scope struct {
	*remedies
	pkg    string
	within *ast.FuncDecl
	depth  int
}

// callee is the function that is called, as it is known in sinks and funcs.
func (s scope) callee(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return s.pkg + "." + f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok && s.funcs[x.Name+"."+f.Sel.Name] != nil {
			return x.Name + "." + f.Sel.Name
		}
		return s.pkg + "." + f.Sel.Name
	}
	return ""
}

func (s scope) take(e ast.Expr) {
	for _, text := range s.resolve(e) {
		if strings.Trim(text, "X ;:,.") != "" {
			s.texts[text] = append(s.texts[text], s.fset.Position(e.Pos()).String())
		}
	}
}

var verb = regexp.MustCompile(`%(\[\d+\])?[-+#0-9.]*[a-z]`)

// resolve gives what an expression may be. Nothing: it only passes on what was written elsewhere.
func (s scope) resolve(e ast.Expr) []string {
	if s.depth++; s.depth > 8 {
		return []string{"X"}
	}
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return []string{text}
		}
	case *ast.ParenExpr:
		return s.resolve(e.X)
	case *ast.BinaryExpr:
		return product(s.resolve(e.X), s.resolve(e.Y))
	case *ast.IndexExpr:
		return s.resolve(e.X)
	case *ast.CompositeLit:
		var out []string
		for _, x := range e.Elts {
			if kv, ok := x.(*ast.KeyValueExpr); ok {
				out = append(out, s.resolve(kv.Value)...)
			}
		}
		return out
	case *ast.SelectorExpr:
		if v, ok := s.values[typeName(e.X)+"."+e.Sel.Name]; ok {
			return scope{s.remedies, typeName(e.X), nil, s.depth}.resolve(v)
		}
		if slices.Contains(remedyNames, e.Sel.Name) {
			return nil
		}
	case *ast.Ident:
		return s.variable(e.Name)
	case *ast.CallExpr:
		return s.call(e)
	}
	return []string{"X"}
}

func product(left, right []string) []string {
	var out []string
	for _, l := range left {
		for _, r := range right {
			out = append(out, l+r)
		}
	}
	return out
}

// variable is what a name may hold: of a package, or what the function around it puts in.
func (s scope) variable(name string) []string {
	if v, ok := s.values[s.pkg+"."+name]; ok {
		return s.resolve(v)
	}
	if s.within == nil {
		return []string{"X"}
	}
	var out []string
	ast.Inspect(s.within, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == len(a.Rhs) {
			for i, left := range a.Lhs {
				if typeName(left) == name {
					out = append(out, s.resolve(a.Rhs[i])...)
				}
			}
		}
		return true
	})
	if out == nil && !slices.Contains(remedyNames, name) {
		return []string{"X"}
	}
	return out
}

func (s scope) call(c *ast.CallExpr) []string {
	name := s.callee(c)
	short := name[strings.LastIndexByte(name, '.')+1:]
	first := func() []string { return s.resolve(c.Args[0]) }
	switch short {
	case "String":
		return []string{"X"}
	case "again":
		if len(c.Args) == 1 && s.pkg == "cli" {
			return product([]string{"phoenix "}, first())
		}
	case "inside", "TrimSpace", "shown", "printable", "advice":
		return first()
	case "Sprintf":
		var out []string
		for _, text := range first() {
			out = append(out, verb.ReplaceAllString(text, "X"))
		}
		return out
	}
	var out []string
	for _, f := range s.funcs[name] {
		if f.Body == nil || f.Type.Results == nil || typeName(f.Type.Results.List[0].Type) != "string" {
			continue
		}
		inner := scope{s.remedies, name[:strings.IndexByte(name, '.')], f, s.depth}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if ret, ok := n.(*ast.ReturnStmt); ok && len(ret.Results) > 0 {
				out = append(out, inner.resolve(ret.Results[0])...)
			}
			return true
		})
	}
	if out == nil {
		return []string{"X"}
	}
	return out
}

// decisions are the texts that name no command: a person has to decide, to write into a file, or to look at something.
// One a line.
func decisions(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile("remedies.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}
