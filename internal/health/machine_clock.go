package health

import (
	"context"
	"net/http"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// clockSlack is how far the machine's clock may be from others'. Debian's lists are refused by apt when they are from
// the future, certificates when they are not valid yet.
const clockSlack = 5 * time.Minute

// witnesses are files that the machine writes now and then: one from the future says that the clock was set back.
var witnesses = []string{"/var/lib/systemd/timesync/clock", "/var/lib/dpkg/status", "/var/lib/apt/periodic"}

const hostClockFix = "timedatectl set-ntp true (apt-get install systemd-timesyncd where nothing keeps the time); " +
	"timedatectl set-time sets it by hand"

// runHostClock compares the clock with what was written before and, where a mirror answers, with the mirror's.
func runHostClock(ctx context.Context, h host.Host, c Check, p mirrorParams) Result {
	now := h.Now()
	for _, path := range witnesses {
		if m, err := h.Lstat(path); err == nil && m.ModTime.Sub(now) > clockSlack {
			return c.fail("the clock of this machine is behind by "+human(m.ModTime.Sub(now)),
				path+" was written at "+m.ModTime.UTC().Format(time.RFC3339)+", now is "+now.UTC().Format(time.RFC3339),
				hostClockFix)
		}
	}
	if len(p.Mirrors) == 0 {
		return c.pass("nothing says that the clock is wrong", now.UTC().Format(time.RFC3339))
	}
	resp, err := p.ask(ctx, h)
	if err != nil {
		return c.pass("nothing says that the clock is wrong", "no mirror answers: it was compared with files alone")
	}
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	off := h.Now().Sub(theirs)
	switch {
	case err != nil:
		return c.pass("nothing says that the clock is wrong", "the mirror does not say what time it is")
	case off.Abs() > clockSlack:
		way := "ahead"
		if off < 0 {
			way = "behind"
		}
		return c.fail("the clock of this machine is "+way+" by "+human(off), p.Mirrors[0]+" says "+
			theirs.UTC().Format(time.RFC3339)+", now is "+now.UTC().Format(time.RFC3339), hostClockFix)
	}
	return c.pass("the clock agrees with the mirror's", theirs.UTC().Format(time.RFC3339))
}
