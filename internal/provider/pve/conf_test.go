package pve

import (
	"slices"
	"strings"
	"testing"
)

const written = `# phoenix%3A container/103
#a note: by hand
arch: amd64
cores: 2
features: nesting=1
hostname: step-ca
memory: 512
mp0: local-zfs:subvol-103-disk-1,mp=/etc/step-ca/ssl,backup=1,size=1G
net0: name=eth0,bridge=vmbr0,hwaddr=52:54:00:86:17:67,ip=10.0.0.10/24,type=veth
ostype: debian
parent: ready
rootfs: local-zfs:subvol-103-disk-0,size=4G
unused0: local-zfs:subvol-103-disk-2
lxc.apparmor.profile: unconfined
lxc.mount.auto = sys:rw

[pve:pending]
delete: mp4,!mp6
features: nesting=1,keyctl=1
mp4: never

[ready]
#of a snapshot
memory: 256
snaptime: 1764021158
lxc.cap.drop: mknod
`

func TestConfReadsWhatProxmoxWrites(t *testing.T) {
	c := parseConf(written)
	if got := c.text(); got != written {
		t.Errorf("printed differently:\n%s", got)
	}
	for key, want := range map[string]string{"memory": "512", "hostname": "step-ca", "lxc.mount.auto": "sys:rw",
		"swap": ""} {
		if got := c.current().get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got, want := c.snapshots(), []string{"ready"}; !slices.Equal(got, want) {
		t.Errorf("snapshots %q", got)
	}
	if got, want := c.current().description(),
		[]string{" phoenix: container/103", "a note: by hand"}; !slices.Equal(got, want) {
		t.Errorf("description %q", got)
	}
	if got := c.then("features"); got != "nesting=1,keyctl=1" {
		t.Errorf("features will be %q", got)
	}
	if w := c.waiting(); len(w) != 3 || w["mp4"] != "" || w["mp6"] != "" {
		t.Errorf("waiting %q", w)
	}
	if c.then("memory") != "512" || slices.Contains(c.keys(), "mp4") || !slices.Contains(c.keys(), "unused0") {
		t.Errorf("keys %q", c.keys())
	}
}

func TestOptionsGoBeforeTheFirstSection(t *testing.T) {
	c := parseConf(written)
	c.setOptions([]line{{key: "lxc.tty.max", value: "4"}})
	again := parseConf(c.text())
	if o := again.current().options(); len(o) != 1 || o[0].key != "lxc.tty.max" || o[0].value != "4" {
		t.Errorf("options %+v", o)
	}
	if o := again.section("ready").options(); len(o) != 1 || o[0].key != "lxc.cap.drop" {
		t.Errorf("the snapshot's options %+v", o)
	}
	if !strings.Contains(c.text(), "disk-2\nlxc.tty.max: 4\n\n[pve:pending]\n") {
		t.Errorf("in the wrong place:\n%s", c.text())
	}
	c = parseConf("memory: 512") // no end of line
	c.setOptions([]line{{key: "lxc.tty.max", value: "4"}})
	if got := c.text(); got != "memory: 512\nlxc.tty.max: 4\n" {
		t.Errorf("%q", got)
	}
}

func TestEditsLeaveTheRestAlone(t *testing.T) {
	c := parseConf(written)
	c.setDescription([]string{"phoenix: x", "50% für:alle"})
	c.drop("mp0", "unused0")
	want := "#phoenix%3A x\n#50% f%C3%BCr%3Aalle\narch: amd64\n"
	if got := c.text(); !strings.HasPrefix(got, want) || strings.Contains(got, "mp0") ||
		!strings.HasSuffix(got, "lxc.cap.drop: mknod\n") {
		t.Errorf("%s", got)
	}
	if d := parseConf(c.text()).current().description(); len(d) != 2 || d[1] != "50% für:alle" {
		t.Errorf("%q", d)
	}
}

func FuzzConf(f *testing.F) {
	for _, seed := range []string{written, "", "\n", "[x]", "memory:512\r\n", "lxc.a=b\n[pve:PENDING]\n", "#%zz%4",
		"mp0: a,mp=/x\nmp0: b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := parseConf(text)
		if got := c.text(); got != text {
			t.Fatalf("%q was printed as %q", text, got)
		}
		before := len(c.sections)
		notes := []string{"phoenix: volume/1/a local:1", "x"}
		c.setOptions([]line{{key: "lxc.tty.max", value: "4"}})
		c.setDescription(notes)
		again := parseConf(c.text())
		if len(again.sections) != before {
			t.Fatalf("%d sections became %d", before, len(again.sections))
		}
		if o := again.current().options(); len(o) != 1 || o[0].value != "4" {
			t.Fatalf("options %+v of %q", o, c.text())
		}
		if got := again.current().description(); !slices.Equal(got, notes) {
			t.Fatalf("notes %q", got)
		}
	})
}
