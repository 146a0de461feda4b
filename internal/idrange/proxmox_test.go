package idrange_test

import (
	"reflect"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func TestParseGuest(t *testing.T) {
	own, other := spec.IDMap{Base: 1879113728, Count: 65536}, spec.IDMap{Base: 1000000, Count: 65536}
	const lines = "lxc.idmap: u 0 1879113728 65536\nlxc.idmap = g 0 1879113728 65536\n"
	const note = "#phoenix%3A ids/103 1879113728%3A65536 from 100000%3A65536 1000000%3A65536\n"
	moving := idrange.Moving{To: own, From: []spec.IDMap{idrange.Shared, other}}
	for name, tc := range map[string]struct {
		config string
		want   idrange.Guest
	}{
		"Proxmox's own": {"arch: amd64\nunprivileged: 1\n", idrange.Guest{IDMap: idrange.Shared}},
		"privileged":    {"arch: amd64\n", idrange.Guest{}},
		"phoenix's": {"#phoenix%3A container/103\nunprivileged: 1\n" + lines,
			idrange.Guest{IDMap: own, Ours: true}},
		"lines without unprivileged": {lines, idrange.Guest{IDMap: own}},
		"another's mark": {"#phoenix%3A container/301\nunprivileged: 1\n",
			idrange.Guest{IDMap: idrange.Shared}},
		"another's walk": {"#phoenix%3A ids/301 1%3A2 from 3%3A4\nunprivileged: 1\n",
			idrange.Guest{IDMap: idrange.Shared}},
		"a walk": {note + "unprivileged: 1\n",
			idrange.Guest{IDMap: idrange.Shared, Moving: moving}},
		"lines of a snapshot": {"unprivileged: 1\n\n[old]\n" + lines, idrange.Guest{IDMap: idrange.Shared}},
		"what waits": {"unprivileged: 1\n" + lines + "\n[pve:pending]\nlxc.idmap: u 0 5 6\n",
			idrange.Guest{IDMap: own}},
		"users only": {"unprivileged: 1\nlxc.idmap: u 0 1879113728 65536\n",
			idrange.Guest{IDMap: own, Odd: true}},
		"groups differ": {"lxc.idmap: u 0 1879113728 65536\nlxc.idmap: g 0 1000000 65536\n",
			idrange.Guest{IDMap: own, Odd: true}},
		"in parts": {lines + "lxc.idmap: u 65536 1000 1\n", idrange.Guest{IDMap: own, Odd: true}},
		"no root": {"unprivileged: 1\nlxc.idmap: u 1 1879113728 65536\nlxc.idmap: g 0 5 6\n",
			idrange.Guest{IDMap: idrange.Shared, Odd: true}},
	} {
		got := idrange.ParseGuest("103", tc.config)
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
		if has := map[bool]spec.IDMap{true: moving.To, false: tc.want.IDMap}[tc.want.IsMoving()]; got.Has() != has {
			t.Errorf("%s: it has %s", name, idrange.Text(got.Has()))
		}
	}
}

func TestMovingNote(t *testing.T) {
	m := idrange.Moving{To: spec.IDMap{Base: 1879113728, Count: 65536}, From: []spec.IDMap{idrange.Shared}}
	if got, ok := idrange.MovingOf("103", m.Note("103")); !ok || !reflect.DeepEqual(got, m) {
		t.Errorf("%+v %v", got, ok)
	}
	for _, note := range []string{"", "phoenix: ids/103 x from 1:2", "phoenix: ids/103 1:2",
		"phoenix: ids/103 1:2 from x", "phoenix: ids/1034 1:2 from 3:4", "phoenix: container/103"} {
		if m, ok := idrange.MovingOf("103", note); ok {
			t.Errorf("%q: %+v", note, m)
		}
	}
}
