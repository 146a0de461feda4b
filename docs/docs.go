// Package docs is the reference for people, as it stands in this directory. phoenix explain prints parts of it, so that
// what is read on a machine is about the phoenix that runs there.
package docs

import (
	"embed"
	"strings"
)

//go:embed *.md
var files embed.FS

// Page is the text of a page, such as health.md; empty: there is none.
func Page(name string) string {
	raw, err := files.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(raw)
}

// Section is what stands below a heading of the second level, up to the next one; empty: there is none.
func Section(page, heading string) string {
	_, rest, found := strings.Cut(Page(page), "\n## "+heading+"\n")
	if !found {
		return ""
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return strings.TrimSpace(text)
}

// Row is the row of a page's tables that begins with a cell: its cells, and those of the table's head.
func Row(page, first string) (head, cells []string) {
	var last []string
	for line := range strings.Lines(Page(page)) {
		row, is := strings.CutPrefix(strings.TrimSpace(line), "| ")
		if !is {
			if !strings.HasPrefix(line, "|") {
				last = nil
			}
			continue
		}
		found := strings.Split(strings.TrimSuffix(row, " |"), " | ")
		if last == nil {
			last = found
		}
		if found[0] == first {
			return last, found
		}
	}
	return nil, nil
}
