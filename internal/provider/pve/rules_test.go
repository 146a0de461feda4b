package pve

import (
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// The lines of the facts, and what they mean.
func TestParseRule(t *testing.T) {
	for line, want := range map[string]string{
		"IN ACCEPT -source 10.0.0.0/24 -p tcp -dport 22 -log nolog # ssh from lan": "in ACCEPT tcp 22 from 10.0.0.0/24",
		"IN SSH(ACCEPT) -i net0 -source +web":                                      "in ACCEPT macro SSH from +web on net0",
		"|IN DROP -p udp -dport 53,5353:5355 -log info":                            "off in DROP udp 53,5353:5355 log info",
		"GROUP mygrp -i net0":                                                      "group mygrp on net0",
		"OUT REJECT -p icmp -icmp-type echo-request # phoenix: x":                  "ours out REJECT icmp type echo-request",
		"  in accept   -dport 80:80,443   -p TCP # phoenix:":                       "ours in ACCEPT tcp 80,443",
		"IN ACCEPT -source 0.0.0.0/0":                                              "in ACCEPT",
		"IN ACCEPT -source 10.0.0.1-10.0.0.2,10.0.0.0/31":                          "in ACCEPT from 10.0.0.0/31,10.0.0.2",
		"# IN ACCEPT":              "",
		"":                         "",
		"IN":                       "",
		"IN ACCEPT -bogus 1":       "",
		"IN ACCEPT -p":             "",
		"[RULES]":                  "",
		"IN ACCEPT tcp -dport 80x": "",
	} {
		r, ok := parseRule(line)
		got := ""
		if ok {
			got = r.Meaning()
		}
		if r.off && ok {
			got = "off " + got
		}
		if r.ours && ok {
			got = "ours " + got
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// A file comes out as it went in; after a change phoenix's rules are there once, in order, and a second change does
// nothing.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"", "[OPTIONS]\nenable: 1\n\n[RULES]\n\nIN ACCEPT -p tcp -dport 22 # x\n|OUT DROP\n",
		"[RULES]\nIN ACCEPT # phoenix: y", "x\r\n[rules]\n[RULES]\n[IPSET a]\n1",
		"[OPTIONS]\nenable:\nenable: 0", "[options]\n[OPTIONS]\nenable: 1\n[RULES]\nIN ACCEPT -p tcp -dport 9000\n",
		"IN DROP # phoenix:\n[RULES]"} {
		f.Add(s)
	}
	want := []spec.Rule{{Direction: "in", Action: "ACCEPT", Proto: "tcp", Ports: "9000", Comment: "c"},
		{Direction: "out", Action: "DROP"}}
	f.Fuzz(func(t *testing.T, text string) {
		x := parseFilter(text)
		if x.text() != text {
			t.Fatalf("%q became %q", text, x.text())
		}
		foreign := len(x.status(want).Others) - len(x.status(want).Doubled)
		change := func(x *filter) string {
			for _, o := range filterOptions(spec.Firewall{}) {
				x.setOption(o.key, o.want)
			}
			x.setRules(want, false)
			return x.text()
		}
		once := change(x)
		back := parseFilter(once)
		if d := (Firewall{}).Diff(spec.Firewall{Rules: want}, back.status(want)); !d.Empty() {
			t.Fatalf("%q: %q is not true: %+v", text, once, d)
		}
		if got := len(back.status(want).Others); got != foreign {
			t.Fatalf("%q: %d rules of others became %d in %q", text, foreign, got, once)
		}
		if twice := change(back); twice != once {
			t.Fatalf("%q became %q", once, twice)
		}
	})
}
