package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// stuckHost is a system on which all commands say that all is well, and every port takes connections and says nothing.
type stuckHost struct {
	host.Host
	tcp, udp string
}

func (h *stuckHost) Run(_ context.Context, c host.Command) (host.Result, error) {
	for command, says := range map[string]string{
		"-s -H": "RUNNING\n", "-p -H": "1\n", "is-system-running": "running\n",
		"systemctl show": "ActiveState=active\nSubState=running\nResult=success\nLoadState=loaded\n",
	} {
		if strings.Contains(strings.Join(c.Argv, " "), command) {
			return host.Result{Stdout: []byte(says)}, nil
		}
	}
	return host.Result{}, &host.RunError{Argv: c.Argv, Code: 1, Cause: errors.New("no such command")}
}

func (h *stuckHost) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, map[string]string{"tcp": h.tcp, "udp": h.udp}[network])
}

func (h *stuckHost) ReadFile(path string) ([]byte, error) {
	switch {
	case path == "/etc/resolv.conf":
		return []byte("nameserver 192.0.2.1\nnameserver 192.0.2.2\n"), nil
	case strings.Contains(path, "/pins/"):
		return h.Host.ReadFile(path)
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// stuck takes connections and says nothing, until the test ends.
func stuck(t *testing.T) *stuckHost {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	return &stuckHost{Host: &host.Local{}, tcp: l.Addr().String(), udp: u.LocalAddr().String()}
}

// homelab is a house with a gateway, a proxy and a backend.
const homelab = "../../examples/homelab"

// asked is a house of homelab whose containers' agents are played by inside.
func asked(t *testing.T, inside func(ctx context.Context, raw json.RawMessage) (json.RawMessage, error)) *session {
	t.Helper()
	h := loadedFrom(t, homelab, func(root string) {
		path := filepath.Join(root, "pins", "103")
		if p, ok := specOf[spec.Pin](loadedFrom(t, homelab, nil).objects, object.NewAddress(spec.KindPin, "103")); ok {
			path = filepath.Join(root, "pins", filepath.Base(p.Path))
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(strings.Repeat("ab", 32)+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	})
	a := &app{host: stuck(t)}
	s := &session{app: a, house: h}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	s.links = newLinks(func(_ context.Context, id string) (*agent.Client, error) {
		in, out := io.Pipe()
		back, said := io.Pipe()
		server := &agent.Server{Check: func(ctx context.Context, _ host.Host, raw json.RawMessage) (json.RawMessage,
			error) {
			return inside(ctx, raw)
		}}
		group.Go(func() { _ = server.Serve(ctx, in, said); said.Close() })
		return agent.NewClient(back, out, out.Close, func() { out.Close(); back.Close() },
			agent.Session{Container: id}), nil
	})
	t.Cleanup(func() {
		s.close()
		cancel()
		group.Wait()
	})
	return s
}

// Whatever hangs, a health check ends in seconds, and says what did not answer.
func TestHealthOfWhatHangs(t *testing.T) {
	forever := func(ctx context.Context) (json.RawMessage, error) { <-ctx.Done(); return nil, ctx.Err() }
	stuck := stuck(t)
	var group sync.WaitGroup
	for name, c := range map[string]struct {
		inside func(context.Context, json.RawMessage) (json.RawMessage, error)
		says   map[string]string // by the check's id
	}{
		"ports": {func(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
			return answerCheck(ctx, stuck, raw)
		},
			map[string]string{"PHX-CA-001": "no answer within", "PHX-DNS-001": "does not answer",
				"PHX-ROUTE-001": "no answer within"}},
		"agents": {func(ctx context.Context, _ json.RawMessage) (json.RawMessage, error) { return forever(ctx) },
			map[string]string{"PHX-CT-006": "no answer within", "PHX-UNIT-001": "blocked by running/"}},
		"agents, later": {func(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
			if strings.Contains(string(raw), `"id":"PHX-CT-006"`) {
				return answerCheck(ctx, stuck, raw)
			}
			return forever(ctx)
		}, map[string]string{"PHX-UNIT-001": "answer"}},
	} {
		s := asked(t, c.inside)
		group.Go(func() {
			begun := time.Now()
			report := s.check(t.Context(), s.objects)
			// Some six seconds where nothing else is at work; each limit in turn would be minutes.
			if took := time.Since(begun); took > 20*time.Second || report.Healthy {
				t.Errorf("%s: it took %s, healthy: %t", name, took, report.Healthy)
			}
			for id, says := range c.says {
				if r, ok := sayingOf(report, id, says); !ok {
					t.Errorf("%s: %s does not say %q: %+v", name, id, says, r)
				}
			}
		})
	}
	group.Wait()
}

// sayingOf is a result of the check that says so, or any of its results.
func sayingOf(report health.Report, id, says string) (found health.Result, ok bool) {
	for _, r := range report.Checks {
		if r.ID == id && r.Status != health.Pass {
			if found = r; strings.Contains(r.Summary+" "+r.Evidence, says) {
				return r, true
			}
		}
	}
	return found, false
}

// saidView keeps what was said of the steps of a command.
type saidView struct {
	view.View
	steps []string
}

func (v *saidView) Step(what string) { v.steps = append(v.steps, what) }

// slowly is a house in which each application's own check fails so many times before it passes, and names are not known
// until then.
func slowly(t *testing.T, fails int, again *spec.Again) (s *session, tries *atomic.Int32, said *saidView) {
	t.Helper()
	tries = &atomic.Int32{}
	s = asked(t, func(_ context.Context, raw json.RawMessage) (json.RawMessage, error) {
		var c health.Check
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, err
		}
		r := health.Result{Status: health.Pass, Summary: "well"}
		up := int(tries.Load()) > fails
		switch c.ID {
		case "PHX-CT-007":
			if up = int(tries.Add(1)) > fails; !up {
				r = health.Result{Status: health.Fail, Summary: "not up", Evidence: "no", Fix: "mend it"}
			}
			if fails < 0 {
				r = health.Result{Status: health.Fail, Vain: true}
			}
		case "PHX-DNS-001":
			if !up {
				r.Status = health.Fail
			}
		}
		return json.Marshal(r)
	})
	said = &saidView{}
	s.view = said
	s.host = &stuckHost{Host: &host.Local{}, tcp: "127.0.0.1:1", udp: "127.0.0.1:1"} // nobody is there, and says so
	for i, o := range s.objects {
		if r, ok := specOf[spec.Running](s.objects, o.Address); ok && o.Address == "running/201" {
			r.Check, r.Again = "frob", again
			s.objects[i].Spec, _ = json.Marshal(r)
		}
	}
	return s, tries, said
}

// insides are the failures of what was asked in containers.
func insides(r health.Report) (ids []string) {
	for _, c := range r.Checks {
		if c.Status == health.Fail && (c.ID == "PHX-CT-007" || c.ID == "PHX-DNS-001") {
			ids = append(ids, c.ID+" "+c.Evidence+" "+c.Fix)
		}
	}
	return ids
}

// At the end of a run an application has the time that the configuration gives it, and what heals meanwhile counts as
// well.
func TestAnApplicationThatIsSlowToComeUp(t *testing.T) {
	again := &spec.Again{Times: 3, Every: spec.Duration(20 * time.Millisecond)}
	every := attemptLine
	attemptLine = 0
	defer func() { attemptLine = every }()
	s, tries, said := slowly(t, 2, again)
	if left := insides(s.checkPatiently(t.Context(), s.objects)); len(left) > 0 || tries.Load() < 3 {
		t.Errorf("after %d tries: %q", tries.Load(), left)
	}
	if len(said.steps) != 2 || !strings.HasPrefix(said.steps[1],
		"container 201: attempt 2 of 4 of its health_check failed, next in 20ms: ") || !strings.Contains(said.steps[0], "container 201 is not up yet by its own "+
		"health_check: it is tried up to 3 times more, 20ms apart") {
		t.Errorf("said: %q", said.steps)
	}
	s, tries, _ = slowly(t, 1000, again)
	left := strings.Join(insides(s.checkPatiently(t.Context(), s.objects)), "\n")
	if !strings.Contains(left, "PHX-CT-007 tried 3 times more, 20ms apart: container 201 says: no") ||
		tries.Load() != 5 {
		t.Errorf("after %d tries: %s", tries.Load(), left)
	}
	s, tries, _ = slowly(t, 2, again)
	left = strings.Join(insides(s.check(t.Context(), s.objects)), "\n")
	if !strings.Contains(left, "asked once: phoenix up asks up to 3 times more, 20ms apart") || tries.Load() != 1 {
		t.Errorf("health by itself, after %d tries: %s", tries.Load(), left)
	}
	s, tries, said = slowly(t, -1, again)
	if s.checkPatiently(t.Context(), s.objects); tries.Load() != 1 || len(said.steps) > 0 {
		t.Errorf("a missing program: %d tries, %q", tries.Load(), said.steps)
	}
	s, tries, said = slowly(t, 2, nil)
	if s.checkPatiently(t.Context(), s.objects); tries.Load() != 1 || len(said.steps) > 0 {
		t.Errorf("without retries: %d tries, %q", tries.Load(), said.steps)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s, _, _ = slowly(t, 1000, &spec.Again{Times: 3, Every: spec.Duration(time.Hour)})
	if begun := time.Now(); s.checkPatiently(ctx, s.objects).Healthy || time.Since(begun) > time.Minute {
		t.Error("it cannot be stopped")
	}
}
