package audit

import (
	"strings"
	"testing"
)

// FuzzTexts: whatever stands in the files of a container that was broken into, reading it ends, and no secret comes out of it.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{"http { server { listen 443 ssl; } }", "[Timer]\nOnCalendar=weekly\nOnUnitActiveSec=99999999999999999999h\n", "17 3 * * * root renew\n@weekly renew",
		"lxc.idmap = u 0 x 65536\nlxc.mount.entry = /a b none bind 0 0", "mp0: /a,mp=/b\nunprivileged: 1", "1 0 8:1 /a /b rw - ext4 d rw", "PASSWORD='hunter2hunter2'",
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
		if what := secretIn(s); strings.Contains(what, "hunter2") && !strings.Contains(strings.ToLower(s), strings.ToLower(what)+"=") && !strings.Contains(s, what) {
			t.Errorf("%q has %q", s, what)
		}
	})
}
