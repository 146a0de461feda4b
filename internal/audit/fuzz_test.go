package audit

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

// FuzzTexts: whatever stands in the files of a container that was broken into, reading it ends, and the name of a
// secret is no more than a piece of what was read.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{"http { server { listen 443 ssl; } }",
		"[Timer]\nOnCalendar=weekly\nOnUnitActiveSec=99999999999999999999h\n", "17 3 * * * root renew\n@weekly renew",
		"lxc.idmap = u 0 x 65536\nlxc.mount.entry = /a b none bind 0 0", "mp0: /a,mp=/b\nunprivileged: 1",
		"1 0 8:1 /a /b rw - ext4 d rw", "PASSWORD='hunter2hunter2'",
		"echo \"hunter2hunter2\" > /etc/password", "--token hunter2hunter2", "http://u:hunter2hunter2@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parseNginx(s)
		timerPeriod(s)
		cronPeriod(s)
		lxc(s)
		proxmox(s)
		mounts(s)
		withoutComments(s)
		secretName(s)
		secretArgument(strings.Fields(s))
		kinds := []string{"", "a private key", "a password that is written to a file", "an address with a password"}
		if what := secretIn(s); !slices.Contains(kinds, what) &&
			(!strings.Contains(s, what) || strings.ContainsFunc(what, unicode.IsSpace)) {
			t.Errorf("%q has %q", s, what)
		}
	})
}
