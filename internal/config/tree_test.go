package config

import (
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

func TestParseTellsWhere(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		line int
		want string
	}{
		"empty":             {"", 1, "the file is empty"},
		"blank":             {"\n\n  ", 1, "the file is empty"},
		"byte order only":   {"\ufeff\r\n", 1, "the file is empty"},
		"UTF-16":            {"\xff\xfe{\x00}\x00", 1, "this is not UTF-8 text; it looks like UTF-16"},
		"UTF-16, no mark":   {"\x00{\x00}", 1, "this is not UTF-8 text; it looks like UTF-16"},
		"comma forgotten":   {"{\n\"a\": 1\n\n\"b\": 2}", 2, "a comma or } should be behind this value"},
		"comma too many":    {"{\n\"a\": 1,\n}", 3, "a comma before }"},
		"comma in a list":   {"[1,\n2,\n]", 3, "a comma before ]"},
		"open object":       {"{\n\"a\": {\n\"b\": 1", 3, "the file ends, but the { of line 2 is never closed"},
		"open list":         {"{\"a\": [\n1,2", 2, "the file ends, but the [ of line 1 is never closed"},
		"list after comma":  {"[1,", 1, "the file ends where a value should be"},
		"open key":          {"{\"a\": 1,\n", 2, "the file ends, but the { of line 1 is never closed"},
		"wrong bracket":     {"{\"a\": [1}", 1, "a comma or ] should be behind this value"},
		"comment":           {"{\n// hello\n\"a\": 1}", 2, "JSON has no comments"},
		"comment behind":    {"{\"a\": 1 // hello\n}", 1, "JSON has no comments"},
		"comment as value":  {"{\"a\": # x\n1}", 1, "JSON has no comments"},
		"single quotes":     {"{'a': 1}", 1, "a key in double quotes should be here"},
		"no colon":          {"{\"a\" 1}", 1, "a : should be behind the key"},
		"not a value":       {"{\n\"a\": True}", 2, "this is not a JSON value"},
		"leading zero":      {"[01]", 1, "this is not a JSON value"},
		"plus":              {"[+1]", 1, "this is not a JSON value"},
		"bare minus":        {"[-]", 1, "this is not a JSON value"},
		"nothing":           {"[,1]", 1, "this is not a JSON value"},
		"open string":       {"{\"a\": \"b", 1, "the file ends inside a string"},
		"open escape":       {"[\"\\", 1, "the file ends inside a string"},
		"line in a string":  {"{\n\"a\": \"b\nc\"}", 2, "a line break or another control character inside a string"},
		"unknown escape":    {`["\x"]`, 1, "an escape in a string that JSON does not know"},
		"half a surrogate":  {`["\ud800"]`, 1, "half of a surrogate pair in a string"},
		"not UTF-8":         {"[\"\xff\"]", 1, "a string that is not UTF-8"},
		"more behind":       {"{}\n{}", 2, "there is more after the end of the value"},
		"a } too many":      {"{}}", 1, "there is more after the end of the value"},
		"zero byte":         {"\x00", 1, "this is not UTF-8 text; it looks like UTF-16"},
		"very deep":         {strings.Repeat("[", 100000), 1, "values are nested more than 64 deep"},
		"very deep objects": {strings.Repeat(`{"a":`, 100000), 1, "values are nested more than 64 deep"},
		"key twice":         {"{\"a\": {\n\"b\": 1,\n\"b\": 2}}", 3, "the key stands twice, first in line 2"},
		"escaped key twice": {"{\"b\": 1,\n\"\\u0062\": 2}", 2, "the key stands twice, first in line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			var l diag.List
			n := parse(File{Name: "f", Data: []byte(c.in)}, &l)
			if len(l) != 1 || l[0].Line != c.line || l[0].Summary != c.want || l[0].File != "f" {
				t.Errorf("got %v, want line %d: %s", l, c.line, c.want)
			}
			if twice := strings.Contains(name, "twice"); (n != nil) != twice {
				t.Errorf("tree is %v", n)
			}
		})
	}
}

func TestParseReads(t *testing.T) {
	var l diag.List
	n := parse(File{Data: []byte("\ufeff{\"\": [1, -0.5e+3, \"a\\n\\u00fc\\ud83d\\ude00\ufffd\"],\r\n\"n\": null, " +
		"\"t\": true, \"e\": {}, \"l\": []}\n")}, &l)
	if n == nil || len(l) > 0 {
		t.Fatal(l)
	}
	items := n.members[0].value.items
	if len(items) != 3 || items[1].text != "-0.5e+3" || items[2].text != "a\nü😀\ufffd" {
		t.Errorf("list is %+v", items)
	}
	if n.member("n").kind != aNull || n.member("t").text != "true" || n.member("e").line != 2 ||
		n.member("none") != nil {
		t.Errorf("object is %+v", n.members)
	}
}

// TestSyntaxErrorsShowNoText: a value that is not JSON could be a secret.
func TestSyntaxErrorsShowNoText(t *testing.T) {
	for _, in := range []string{`{"password": sesame}`, `{"password": "sesame`, `{"password": "sesame" sesame}`,
		"{\"password\": \"ses\name\"}", `{sesame: 1}`} {
		var l diag.List
		if parse(File{Data: []byte(in)}, &l); len(l) != 1 || strings.Contains(l[0].String(), "sesame") {
			t.Errorf("%s: %v", in, l)
		}
	}
}

func TestNearest(t *testing.T) {
	known := names(typeOf[Container]())
	for in, want := range map[string]string{
		"memory_bm": "memory_mb", "memory": "memory_mb", "Cores": "cores", "clone_from_ctdi": "clone_from_ctid",
		"zfs_volume":  "zfs_volumes",
		"mountpoints": "mount_points", "dependancies": "dependencies", "start_on_boot": "start_at_boot", "x": "",
		"": "", "completely_else": "",
		strings.Repeat("cores", 1000): "",
	} {
		if got := Nearest(in, known); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", in, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"kitten", "sitting", 3},
		{"memroy", "memory", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]string{"24h": "24h0m0s", "1h30m": "1h30m0s", "365d": "8760h0m0s",
		"10y": "87600h0m0s", "": "", "d": "", "-1d": "", "-5m": "", "0s": "",
		"101y": "", "36501d": "", "99999999999999d": "", "1.5d": "", "24": ""} {
		var got specDuration
		problem := duration{&got}.fromNode(&node{kind: aString, text: in})
		if (problem == "") != (want != "") || want != "" && durationString(got) != want {
			t.Errorf("%q is %s (%s), want %q", in, durationString(got), problem, want)
		}
	}
}

func TestArgv(t *testing.T) {
	for in, want := range map[string]string{"systemctl reload nginx": "systemctl|reload|nginx",
		"a && b": "/bin/sh|-c|a && b", "echo $X": "/bin/sh|-c|echo $X"} {
		var a Argv
		if problem := a.fromNode(&node{kind: aString, text: in}); problem != "" || strings.Join(a, "|") != want {
			t.Errorf("%q is %q %s", in, a, problem)
		}
	}
}

// TestEveryRuleIsTested looks for each rule's id in the wanted diagnostics, and that ids are not used twice.
func TestEveryRuleIsTested(t *testing.T) {
	wanted := wantedDiagnostics(t)
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.ID] || r.Title == "" || r.Why == "" || r.Grade == "" {
			t.Errorf("rule %+v is not whole, or its id stands twice", r)
		}
		seen[r.ID] = true
	}
	for _, r := range loadRules() {
		word := "warning"
		if r.refuse {
			word = "error"
		}
		if !strings.Contains(wanted, word+": "+r.ID) {
			t.Errorf("no test data has a finding of %s", r.ID)
		}
	}
}

// TestModelTags keeps the one table of known keys usable: rules that contradict each other would be found by users
// otherwise.
func TestModelTags(t *testing.T) {
	for _, typ := range modelTypes() {
		for key, f := range keys(typ) {
			if f.Tag.Get("min") != "" && f.Tag.Get("max") == "" {
				t.Errorf("%s.%s has min but no max", typ, key)
			}
			if f.Type == typeOf[Kept]() && f.Tag.Get("kept") == "" && !parentKept(typ) {
				t.Errorf("%s.%s is kept for no reason", typ, key)
			}
			if def, enum := f.Tag.Get("default"), f.Tag.Get("enum"); enum != "" && def != "" &&
				!strings.Contains(","+enum+",", ","+def+",") {
				t.Errorf("%s.%s: the default %s is none of %s", typ, key, def, enum)
			}
		}
	}
}
