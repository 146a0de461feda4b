package health

import (
	"io/fs"
	"testing"
	"time"
)

func init() { firstLimit = 300 * time.Millisecond }

// late is a daemon that has only just begun: its word is there at the third look.
type late struct {
	*fakeHost
	looks int
}

func (l *late) ReadFile(path string) ([]byte, error) {
	if l.looks++; l.looks < 3 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return l.fakeHost.ReadFile(path)
}

func TestTheFirstRoundIsWaitedFor(t *testing.T) {
	h := &late{fakeHost: newHost(t)}
	agentRound("active", time.Second, time.Minute, "[]")(t, h.fakeHost)
	if r := runDaemon(t.Context(), h, Check{}, nothing{}); r.Status != Pass || h.looks != 3 {
		t.Errorf("%s after %d looks: %s", r.Status, h.looks, r.Evidence)
	}
}
