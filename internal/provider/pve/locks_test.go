package pve_test

import (
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// locked puts a lock, and what was half done under it, into a container's file, as a power cut leaves it.
func (n *node) locked(lock, section string) {
	n.t.Helper()
	n.write(strings.Replace(n.conf("103"), "hostname: ", "lock: "+lock+"\nhostname: ", 1)+section, "pve/lxc/103.conf")
}

const halfSnapshot = "\n[one]\n#%s\ncores: 2\nrootfs: local-zfs:subvol-103-disk-0,size=4G\nsnapstate: " +
	"prepare\nsnaptime: 1\n"

// What phoenix itself was cut off at is ended whoever meets it first: the container starts, and nothing half is left.
func TestOwnLocksAfterAPowerCut(t *testing.T) {
	for name, cut := range map[string]func(*node){
		"snapshot": func(n *node) {
			n.locked("snapshot", strings.Replace(halfSnapshot, "%s", "phoenix%3A why", 1))
		},
		"snapshot-delete": func(n *node) {
			n.locked("snapshot-delete", strings.Replace(halfSnapshot, "%s", "phoenix%3A why", 1))
		},
		"disk": func(n *node) { n.locked("disk", "") },
		"mounted": func(n *node) {
			n.locked("mounted", "")
			n.write("phoenix\n", "pve/phoenix/mounted/103")
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.house()
			cut(n)
			n.runningThing().make()
			if c := n.conf("103"); strings.Contains(c, "lock:") || strings.Contains(c, "[one]") {
				t.Errorf("%s", c)
			}
			if _, err := os.Stat(n.path("pve/phoenix/mounted/103")); err == nil {
				t.Error("the record is left")
			}
			x := thing{n, newSnapshot(),
				asObject(t, spec.KindSnapshot, "103/one",
					spec.Snapshot{ID: "103", Name: "one", About: "why", Proxmox: n.place()})}
			x.make()
			if c := n.conf("103"); !strings.Contains(c, "#phoenix%3A why") {
				t.Errorf("%s", c)
			}
		})
	}
}

// What somebody else was cut off at is theirs: it is told with what makes nothing worse, and nothing is touched.
func TestOthersLocksAfterAPowerCut(t *testing.T) {
	for _, tc := range []struct{ lock, section, hint string }{
		{"snapshot", strings.Replace(halfSnapshot, "%s", "before the update", 1), "pct delsnapshot 103 one --force 1"},
		{"mounted", "", "pct unmount 103"},
		{"backup", "", "pct delsnapshot 103 vzdump"},
		{"rollback", "", "the same pct rollback once more, before it starts"},
		{"migrate", "", "look on which node its volumes are"},
	} {
		t.Run(tc.lock, func(t *testing.T) {
			n := newNode(t)
			n.house()
			n.locked(tc.lock, tc.section)
			before := n.conf("103")
			n.forgetCalls()
			wants(t, n.runningThing().try(), false, "locked ("+tc.lock+")", tc.hint)
			if c := n.conf("103"); c != before || len(n.calls("pct")) > 0 {
				t.Errorf("%q\n%s", n.calls("pct"), c)
			}
		})
	}
}

// A power cut while Proxmox makes a volume larger leaves the old size in the file: it is made larger again.
func TestGrowthThatWasCutOff(t *testing.T) {
	n := newNode(t)
	n.house()
	s := n.container()
	s.Guest.SizeGB = 6
	n.containerThing(s).make()
	n.write(strings.Replace(n.conf("103"), "size=6G", "size=4G", 1), "pve/lxc/103.conf")
	n.containerThing(s).make()
	if !strings.Contains(n.conf("103"), "size=6G") {
		t.Errorf("%s", n.conf("103"))
	}
}
