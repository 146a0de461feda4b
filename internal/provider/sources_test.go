package provider

import (
	"io/fs"
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

// A suite that this host's apt does not have comes from the same mirrors; Ubuntu from its own.
func TestSourcesOfOtherSuites(t *testing.T) {
	h := filesOnly{"/etc/apt/sources.list": "deb http://deb.example/debian bookworm main\n" +
		"deb http://deb.example/debian bookworm-updates main\ndeb http://sec.example/debian-security " +
		"bookworm-security main contrib\ndeb http://pkg.example/docker bookworm stable\n"}
	want := []string{"deb http://deb.example/debian trixie main", "deb http://deb.example/debian trixie-updates main",
		"deb http://sec.example/debian-security trixie-security main"}
	if got := sourcesOf(h, "trixie"); !slices.Equal(got, want) {
		t.Errorf("trixie: %q", got)
	}
	want[0] = "deb http://deb.example/debian bookworm main"
	want[1] = "deb http://deb.example/debian bookworm-updates main"
	want[2] = "deb http://sec.example/debian-security bookworm-security main"
	if got := sourcesOf(h, "bookworm"); !slices.Equal(got, want) {
		t.Errorf("bookworm: %q", got)
	}
	if got := sourcesOf(filesOnly{}, "trixie"); got != nil {
		t.Errorf("no sources: %q", got)
	}
	if got := sourcesOf(h, "noble"); got != nil {
		t.Errorf("Debian's mirrors do not have noble: %q", got)
	}
	own := filesOnly{"/etc/apt/sources.list": "deb http://mirror.example/ubuntu noble main restricted\n"}
	want = []string{"deb http://mirror.example/ubuntu noble main universe"}
	if got := sourcesOf(own, "noble"); !slices.Equal(got, want) {
		t.Errorf("an Ubuntu host: %q", got)
	}
}

// filesOnly is a host that has these files, and does nothing.
type filesOnly map[string]string

func (f filesOnly) ReadFile(path string) ([]byte, error) {
	if text, there := f[path]; there {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

func (f filesOnly) ReadDir(string) ([]string, error) { return nil, fs.ErrNotExist }
