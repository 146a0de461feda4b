// Package diag holds what phoenix has to say about an input: one Diagnostic a problem, many at once.
package diag

import (
	"fmt"
	"sort"
	"strings"
)

// Severity tells whether a Diagnostic stops the work.
type Severity int

// Error stops everything; Warning and Note do not.
const (
	Error Severity = iota
	Warning
	Note
)

// String is the word shown to people and written to JSON.
func (s Severity) String() string { return [...]string{"error", "warning", "note"}[s] }

// MarshalText writes the word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Diagnostic is one problem: what is wrong, where, and what to do.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Rule     string   `json:"rule,omitempty"` // stable id such as PHX-AUD-001, where there is one
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"` // 1-based; 0: not known
	Path     string   `json:"path,omitempty"` // path of the value inside the file, such as lxc_configs.101.memory_mb
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	Hint     string   `json:"hint,omitempty"`
}

// String is one problem as people read it: file:line: severity: summary, then detail and hint on lines of their own.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(d.File)
		if d.Line > 0 {
			fmt.Fprintf(&b, ":%d", d.Line)
		}
		b.WriteString(": ")
	}
	b.WriteString(d.Severity.String() + ": ")
	if d.Rule != "" {
		b.WriteString(d.Rule + ": ")
	}
	if d.Path != "" {
		b.WriteString(d.Path + ": ")
	}
	b.WriteString(d.Summary)
	if d.Detail != "" {
		b.WriteString("\n  " + strings.ReplaceAll(d.Detail, "\n", "\n  "))
	}
	if d.Hint != "" {
		b.WriteString("\n  hint: " + d.Hint)
	}
	return b.String()
}

// List is any number of diagnostics. The zero value is ready to use.
type List []Diagnostic

// Errorf appends an error that has no place in a file.
func (l *List) Errorf(format string, args ...any) {
	*l = append(*l, Diagnostic{Summary: fmt.Sprintf(format, args...)})
}

// HasErrors reports whether anything in the list stops the work.
func (l List) HasErrors() bool {
	for _, d := range l {
		if d.Severity == Error {
			return true
		}
	}
	return false
}

// Sort orders by file, line and path, so that the same input always reads the same.
func (l List) Sort() {
	sort.SliceStable(l, func(i, j int) bool {
		a, b := l[i], l[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Path < b.Path
	})
}

// Err is nil without errors, else an error that carries the whole list.
func (l List) Err() error {
	if !l.HasErrors() {
		return nil
	}
	return &ListError{List: l}
}

// ListError is a List as an error.
type ListError struct{ List List }

// Error joins the diagnostics, one after the other.
func (e *ListError) Error() string {
	lines := make([]string, 0, len(e.List))
	for _, d := range e.List {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}
