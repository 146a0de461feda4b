package idrange

import (
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const passwd = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\nann:x:1000:1000::/home/ann:/bin/bash\n"

func TestBlock(t *testing.T) {
	for name, tc := range map[string]struct {
		files Files
		want  string // empty: none
	}{
		"nobody has anything": {Files{}, "1879048192:268304384"},
		"Debian's first user": {Files{"ann:100000:65536\n", "ann:100000:65536\n", passwd}, "1879048192:268304384"},
		"the old line":        {Files{"root:100000:65536\n", "root:100000:65536\n"}, "1879048192:268304384"},
		"lxd's line": {Files{"root:1000000:1000000000\n", "root:1000000:1000000000\n"},
			"1879048192:268304384"},
		"one that was written": {Files{"root:1879048192:268304384\n", "root:1879048192:268304384\n"},
			"1879048192:268304384"},
		"killed between both": {Files{"root:1048576:16777216\n", ""}, "1048576:16777216"},
		"by hand": {Files{"root:1048576:16777216\nann:524288:65536\n", "root:1048576:16777216\n"},
			"1048576:16777216"},
		"ann came into it": {Files{"root:1879048192:268304384\nann:1879113728:65536\n",
			"root:1879048192:268304384\n"}, "1879048192:268304384"},
		"ann's begin":             {Files{"ann:1879048193:65536\n", ""}, "1879179264:268173312"},
		"ann's groups":            {Files{"", "ann:2147000000:65536\n"}, "1879048192:267911168"},
		"a user of a directory":   {Files{"", "", "bob:x:2000000000:100::/:/bin/sh\n"}, "2000027648:147324928"},
		"a group":                 {Files{"", "", "", "staff:x:1900000000:ann\n"}, "1900019712:247332864"},
		"all of it":               {Files{"ann:1800000000:400000000\n"}, "1531641856:268304384"},
		"everything":              {Files{"ann:0:4294967295\n"}, ""},
		"another's before root's": {Files{"ann:1048576:16777216\nroot:1048576:16777216\n"}, "1879048192:268304384"},
		"nonsense":                {Files{"ann\nann:x:y\n:1879048192:5\n#ann:1879048192:5\nann:-5:3\nann:99999999999999:3\n"}, "1879048192:268304384"},
	} {
		got, ok := tc.files.Block()
		if ok != (tc.want != "") || ok && Text(got) != tc.want {
			t.Errorf("%s: %s %v, want %q", name, Text(got), ok, tc.want)
		}
		if ok && (got.Base%Size != 0 || got.Count%Size != 0 || got.Base+got.Count > 1<<31) {
			t.Errorf("%s: %s is not in whole ranges", name, Text(got))
		}
		// What was chosen is chosen again once it is written down.
		line := "root:" + Text(got) + "\n"
		if again, _ := (Files{tc.files[0] + line, tc.files[1] + line, tc.files[2], tc.files[3]}).Block(); ok &&
			again != got {
			t.Errorf("%s: %s first, then %s", name, Text(got), Text(again))
		}
	}
}

func TestOthers(t *testing.T) {
	f := Files{"ann:100000:65536\nroot:100000:65536\n0:5:5\n", "bob:165535:1\n",
		passwd + "eve:x:100033:100::/:/bin/sh\n", "staff:x:99999:\n"}
	var got []string
	for _, c := range Others(f.Claims(), Shared) {
		got = append(got, c.String())
	}
	want := "100000:65536 is ann's (/etc/subuid:1)|165535:1 is bob's (/etc/subgid:1)|100033:1 is eve's (/etc/passwd:4)"
	if strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFree(t *testing.T) {
	block := spec.IDMap{Base: 0x70000000, Count: 5 * Size}
	at := func(i int) spec.IDMap { return spec.IDMap{Base: block.Base + i*Size, Count: Size} }
	for _, tc := range []struct {
		taken []spec.IDMap
		want  spec.IDMap
	}{
		{nil, at(1)},
		{[]spec.IDMap{at(1)}, at(2)},
		{[]spec.IDMap{at(2)}, at(1)},
		{[]spec.IDMap{{Base: block.Base + Size + 5, Count: 1}}, at(2)},
		{[]spec.IDMap{{Base: block.Base + Size - 1, Count: 2 * Size}}, at(3)},
		{[]spec.IDMap{{Base: 0, Count: 1<<32 - 1}}, spec.IDMap{}},
		{[]spec.IDMap{at(1), at(2), at(3), at(4)}, spec.IDMap{}},
	} {
		got, ok := Free(block, tc.taken, 0)
		if got != tc.want || ok != (tc.want != spec.IDMap{}) || ok && !Slot(block, got) {
			t.Errorf("%v: %v %v, want %v", tc.taken, got, ok, tc.want)
		}
	}
	for first, want := range []int{1, 3, 3, 4, 1} { // the second is taken
		if got, ok := Free(block, []spec.IDMap{at(2)}, first); !ok || got != at(want) {
			t.Errorf("from %d on: %v, want %v", first, got, at(want))
		}
	}
	if Slot(block, at(0)) || Slot(block, spec.IDMap{Base: block.Base + 1, Count: Size}) || Slot(block, Shared) {
		t.Error("what is no container's counts as a slot")
	}
}

func TestMaps(t *testing.T) {
	const lxc = "# lxc.idmap = u 0 5 5\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 200000 65536\nlxc.idmap=u " +
		"65536 300000 1\n"
	const pve = "unprivileged: 1\nlxc.idmap: u 0 1879113728 65536\n[old]\nlxc.idmap: u 0 1879179264 " +
		"65536\nlxc.idmap: u 0 x 65536\n"
	if got := Maps(lxc); len(got) != 2 || got[0] != Shared || got[1].Base != 300000 {
		t.Errorf("%v", got)
	}
	if got := Maps(pve); len(got) != 2 || got[1].Base != 1879179264 {
		t.Errorf("%v", got)
	}
	if m, ok := Root(pve); !ok || m.Base != 1879113728 {
		t.Errorf("%v", m)
	}
	if m, ok := Root("lxc.uts.name = x\n"); ok {
		t.Errorf("%v", m)
	}
	if m, ok := Parse("1879113728:65536"); !ok || Text(m) != "1879113728:65536" {
		t.Errorf("%v", m)
	}
}
