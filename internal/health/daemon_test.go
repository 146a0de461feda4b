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

// mending is a daemon whose word tells of a failure at the first two looks, and of none at the third.
type mending struct {
	*fakeHost
	t     *testing.T
	looks int
}

func (m *mending) ReadFile(path string) ([]byte, error) {
	if m.looks++; m.looks == 3 {
		agentRound("active", 0, time.Minute, "[]")(m.t, m.fakeHost)
	}
	return m.fakeHost.ReadFile(path)
}

func TestAFailureThatIsLookedAtAgainIsWaitedFor(t *testing.T) {
	const failure = `[{"address":"stepca/103","message":"no root"}]`
	h := &mending{fakeHost: newHost(t), t: t}
	agentRound("active", 0, time.Second, failure)(t, h.fakeHost)
	if r := runRound(t.Context(), h, Check{}, nothing{}); r.Status != Pass || h.looks != 3 {
		t.Errorf("%s after %d looks: %s", r.Status, h.looks, r.Evidence)
	}
	h = &mending{fakeHost: newHost(t), t: t}
	agentRound("active", 0, time.Minute, failure)(t, h.fakeHost)
	if r := runRound(t.Context(), h, Check{}, nothing{}); r.Status != Fail || h.looks != 1 {
		t.Errorf("long before it is due: %s after %d looks", r.Status, h.looks)
	}
}
