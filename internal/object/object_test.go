package object

import (
	"encoding/json"
	"testing"
)

func TestAddress(t *testing.T) {
	for a, want := range map[Address][3]string{
		"volume/101/ssl":           {"volume", "101", "ssl"},
		"file/101/etc/resolv.conf": {"file", "101", "etc/resolv.conf"},
		"network/vmbr0":            {"network", "vmbr0", ""},
		"odd":                      {"odd", "", ""},
	} {
		if got := [3]string{a.Kind(), a.Scope(), a.Name()}; got != want {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
	}
	if a := NewAddress("file", "101", "etc/hosts"); a != "file/101/etc/hosts" {
		t.Error(a)
	}
}

func TestFill(t *testing.T) {
	for _, c := range []struct{ spec, into, want string }{
		{`{"a":1}`, "/b", `{"a":1,"b":"v"}`},
		{`{"a":1}`, "/a", `{"a":"v"}`},
		{`{}`, "/a/b", `{"a":{"b":"v"}}`},
		{`{"l":[{"spec":{"x":1}},{}]}`, "/l/1/spec/f", `{"l":[{"spec":{"x":1}},{"spec":{"f":"v"}}]}`},
		{`{"a/b":1}`, "/a~1b", `{"a/b":"v"}`},
		{`{"l":[1]}`, "/l/1", ""},
		{`{"l":[1]}`, "/l/x", ""},
		{`{"a":1}`, "/a/b", ""},
		{`{`, "/a", ""},
	} {
		got, err := Fill(json.RawMessage(c.spec), c.into, "v")
		if string(got) != c.want && (err == nil || c.want != "") {
			t.Errorf("%s at %s: %s, %v; want %s", c.spec, c.into, got, err, c.want)
		}
	}
}

func TestDependencies(t *testing.T) {
	o := Object{After: []Address{"a/1", "b/1", "a/1"}, Needs: []Need{{From: "b/1"}, {From: "c/1"}}}
	got := o.Dependencies()
	if len(got) != 3 || got[0] != "a/1" || got[1] != "b/1" || got[2] != "c/1" {
		t.Errorf("%v", got)
	}
}
