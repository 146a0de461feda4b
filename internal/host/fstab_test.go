package host

import "testing"

func TestEscape(t *testing.T) {
	for path, want := range map[string]string{
		"/srv/ssl": "/srv/ssl", "/a b\tc\nd": `/a\040b\011c\012d`, `/back\slash`: `/back\134slash`,
		`/looks\040so`: `/looks\134040so`,
	} {
		if got := Escape(path); got != want || Unescape(got) != path {
			t.Errorf("%q is written %q and read %q, want %q", path, got, Unescape(got), want)
		}
	}
}
