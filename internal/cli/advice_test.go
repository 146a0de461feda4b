package cli

import (
	"os"
	"testing"
)

// Advice repeats how phoenix was called, once: commands with flags or with a path are as they should be, and prose is
// left alone.
func TestAdvice(t *testing.T) {
	old := os.Args[0]
	t.Cleanup(func() { os.Args[0] = old })
	os.Args[0] = "/opt/x/phoenix-that-path-does-not-have"
	a := &app{opts: options{config: []string{"/srv/my site"}, root: "/srv/state", runtime: "auto"}}
	const own = "/opt/x/phoenix-that-path-does-not-have --config '/srv/my site' --root /srv/state"
	for text, want := range map[string]string{
		"":                       "",
		"phoenix apply 101":      own + " apply 101",
		"look (phoenix ca show)": "look (" + own + " ca show)",
		"phoenix apply 1 && phoenix restart 1; phoenix start 2": own + " apply 1 && " + own + " restart 1; " + own +
			" start 2",
		"phoenix knows words, and phoenix renews": "phoenix knows words, and phoenix renews",
		"systemctl start phoenix.service":         "systemctl start phoenix.service",
		a.again("up"):                             own + " up",
		"/usr/bin/phoenix up":                     "/usr/bin/phoenix up",
	} {
		if got := a.advice(text); got != want {
			t.Errorf("%q becomes\n%q, want\n%q", text, got, want)
		}
		if got := a.advice(a.advice(text)); got != want {
			t.Errorf("%q, twice, becomes\n%q", text, got)
		}
	}
	plain := &app{opts: options{root: defaultRoot, runtime: "pve"}}
	if got := plain.advice("phoenix up"); got != plain.again("up") || a.opts.root != "/srv/state" {
		t.Errorf("%q, %+v", got, a.opts)
	}
}
