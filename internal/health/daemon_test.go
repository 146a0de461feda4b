package health

import (
	"io/fs"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

func init() { firstLimit = time.Second }

// old is a daemon that was started long ago and never said a word.
type old struct{ *fakeHost }

func (o *old) Lstat(path string) (host.Meta, error) {
	if path == startedAt {
		return host.Meta{ModTime: o.Now().Add(-young - time.Second)}, nil
	}
	return o.fakeHost.Lstat(path)
}

func TestAnOldDaemonIsNotWaitedFor(t *testing.T) {
	h := newHost(t)
	h.runs[agentCommand] = unitRun("active", "running", "success", "loaded")
	begun := time.Now()
	if r := runDaemon(t.Context(), &old{h}, Check{}, nothing{}); r.Status != Fail || time.Since(begun) >= firstLimit {
		t.Errorf("%s after %s: %s", r.Status, time.Since(begun), r.Evidence)
	}
}

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
