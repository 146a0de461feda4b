package pve

import (
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const shared = `#phoenix%3A container/101
hostname: nginx
mp0: /mnt/old/103/ssl/,mp=/etc/step-ca/ssl
mp1: /mnt/other,mp=/srv
net0: name=eth0,bridge=vmbr0,type=veth
rootfs: local-zfs:subvol-101-disk-0,size=4G

[ready]
mp0: /mnt/old/103/ssl,mp=/etc/step-ca/ssl
`

// A directory that is not to be seen any more goes out of the file's present state, and its number is free for what
// comes in its place. What else is mounted stays, and so does what a snapshot says.
func TestGoneDirectoriesLeaveTheFile(t *testing.T) {
	s := spec.Container{ID: "101", Guest: &spec.Guest{Gone: []string{"/mnt/old/103/ssl"}}}
	c := parseConf(shared)
	if got := gone(s, c); !slices.Equal(got, []string{"mp0"}) {
		t.Fatalf("gone: %q", got)
	}
	next := withoutGone(s, c)
	if next.free("mp", nil) != "mp0" || next.current().get("mp1") == "" || c.current().get("mp0") == "" {
		t.Errorf("without it:\n%s", next.text())
	}
	if !strings.Contains(next.text(), "[ready]\nmp0: ") {
		t.Errorf("the snapshot was changed:\n%s", next.text())
	}
	if got := gone(s, next); len(got) > 0 {
		t.Errorf("still gone: %q", got)
	}
	s.Guest.Gone = nil
	if withoutGone(s, c) != c {
		t.Error("nothing is gone")
	}
}
