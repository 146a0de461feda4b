package provider

import (
	"slices"
	"testing"
)

func TestSources(t *testing.T) {
	deb822 := "Types: deb\n# a comment: here\nURIs: http://deb.example/debian\nSuites: bookworm bookworm-updates " +
		"trixie\nComponents: main contrib\n" +
		"\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\nEnabled: no\n" +
		"\nTypes: deb\nURIs: http://else.example\nSuites: nodistro\nComponents: main\n"
	want := []string{"deb http://deb.example/debian bookworm main",
		"deb http://deb.example/debian bookworm-updates main"}
	if got := stanzas(deb822, "bookworm"); !slices.Equal(got, want) {
		t.Errorf("deb822: %q", got)
	}
	list := "# deb http://no\ndeb [arch=amd64 signed-by=/x] http://deb.example/debian bookworm main contrib\ndeb-src " +
		"http://deb.example/debian bookworm main\n" +
		"deb http://deb.example/debian bookworm-updates main\ndeb http://other bookworm-backports main\n"
	if got := oneLiners(list, "bookworm"); !slices.Equal(got, want) {
		t.Errorf("one-line: %q", got)
	}
}
