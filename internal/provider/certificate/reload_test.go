package certificate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

// fakeSystemd is a systemctl that knows one unit as its file says, and fails as systemd does where there is none.
type fakeSystemd struct {
	t   *testing.T
	dir string
}

func newFakeSystemd(t *testing.T) fakeSystemd {
	t.Helper()
	f := fakeSystemd{t, t.TempDir()}
	script := `#!/bin/sh
unit=$(cat "` + f.dir + `/unit")
case "$1" in
show) printf '%s\n' "$unit" ;;
*) case "$unit" in *not-found*) echo "Unit web.service not found." >&2; exit 5 ;; esac; echo "$@" >>"` + f.dir + `/calls" ;;
esac
`
	if err := os.WriteFile(filepath.Join(f.dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", f.dir+":"+os.Getenv("PATH"))
	return f
}

// knows sets what is known of the unit.
func (f fakeSystemd) knows(load, active string, since time.Time) {
	f.t.Helper()
	text := "LoadState=" + load + "\nActiveState=" + active + "\nActiveEnterTimestamp="
	if !since.IsZero() {
		text += since.UTC().Format("Mon 2006-01-02 15:04:05.000000 UTC")
	}
	if err := os.WriteFile(filepath.Join(f.dir, "unit"), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f fakeSystemd) calls() int {
	raw, _ := os.ReadFile(filepath.Join(f.dir, "calls"))
	return strings.Count(string(raw), "\n")
}

// A reload whose unit the application's script makes later is pending, so that the script runs; what was started after
// the change needs none, what ran before gets it.
func TestReloadOfAUnitThatDoesNotExistYet(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	systemd := newFakeSystemd(t)
	s, h := specIn(room(t), ca), &host.Local{}
	s.Reload = []string{"systemctl", "reload", "web"}
	systemd.knows("not-found", "inactive", time.Time{})
	first := made(t, h, s) // fails where anything is left to do
	if !strings.Contains(first.ReloadPending, "web.service does not exist yet") || systemd.calls() != 0 {
		t.Errorf("pending %q, %d calls", first.ReloadPending, systemd.calls())
	}
	systemd.knows("loaded", "active", time.Now().Add(time.Second)) // the script made and started it
	if st, d := look(t, h, s); !d.Empty() || st.ReloadPending != "" {
		t.Errorf("started after the change: %+v, pending %q", d, st.ReloadPending)
	}
	systemd.knows("loaded", "active", time.Now().Add(-time.Hour)) // it ran already with an older certificate
	if _, d := look(t, h, s); !d.Has(fieldReload) || d.Has(fieldCertificate) {
		t.Errorf("it runs with an older certificate: %+v", d)
	}
	if again := made(t, h, s); again.Serial != first.Serial || systemd.calls() != 1 {
		t.Errorf("%d calls, serial %s, was %s", systemd.calls(), again.Serial, first.Serial)
	}
	systemd.knows("not-found", "inactive", time.Time{}) // nothing is due: it is not missed
	if st, d := look(t, h, s); !d.Empty() || st.ReloadPending != "" {
		t.Errorf("nothing was changed since: %+v, pending %q", d, st.ReloadPending)
	}
}
