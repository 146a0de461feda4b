package sample

import (
	"fmt"
	"slices"
	"testing"
)

type text string

func whole(t text) string { return string(t) }

func TestOfEachKind(t *testing.T) {
	var all []text
	for _, id := range []int{101, 102, 103} {
		for n := range 2 {
			all = append(all, text(fmt.Sprintf("phoenix, kill before (%d) write BASE/root/lxc/.%d.new/config", n, id)))
		}
		all = append(all, text(fmt.Sprintf("phoenix, kill after (1) write BASE/root/lxc/.%d.new/config", id)),
			text(fmt.Sprintf("agent %d, kill before (1) run ip address add 10.0.0.%d/24", id, id)))
	}
	all = append(all, "phoenix, kill before (1) run other")
	got := OfEachKind(all, whole)
	if len(got) != 4 {
		t.Fatalf("%d of %d: %q", len(got), len(all), got)
	}
	for _, c := range all {
		if !slices.ContainsFunc(got, func(o text) bool { return Kind(string(o)) == Kind(string(c)) }) {
			t.Errorf("no case of the kind of %q", c)
		}
	}
	if again := OfEachKind(all, whole); !slices.Equal(again, got) {
		t.Errorf("another choice: %q, then %q", got, again)
	}
	t.Setenv(Everything, "1")
	if got := OfEachKind(all, whole); len(got) != len(all) {
		t.Errorf("%d of %d where all are asked for", len(got), len(all))
	}
}
