package cli

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// An order is known of releases and the commits after them, and of nothing else.
func TestBefore(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"v1.2.3", "v1.2.4", true}, {"v1.2.4", "v1.2.3", false}, {"v1.9", "v1.10", true}, {"v1.2.3", "v1.2.3", false},
		{"v1.2.3", "v1.2.3-4-gabcdef0", true}, {"v1.2.3-4-gabcdef0", "v1.2.3-12-gabcdef0", true},
		{"v1.2.3-4-gabcdef0", "v1.2.4", true},
		{"v1.2.3-dirty", "v1.2.3-4-gabcdef0", false}, {"v1.2.3-4-gabcdef0-dirty", "v1.2.3-5-gabcdef0", false},
		{"v1.2.3-dirty", "v1.3.0", true},
		{"dev", "v1.0.0", false}, {"v1.0.0", "dev", false}, {"339c953", "7e9390e", false},
		{"v1.0.0-rc1", "v1.0.0", false},
	} {
		if got := before(c.a, c.b); got != c.want {
			t.Errorf("%s before %s: %t", c.a, c.b, got)
		}
	}
}

func TestMayOverwrite(t *testing.T) {
	for _, c := range []struct {
		name            string
		own, site       program
		unattended      bool
		downgrade, from bool
		want            string // part of the error; empty: it may
	}{
		{"the same", program{"dev", "aa"}, program{"dev", "aa"}, true, false, false, ""},
		{"nobody yet", program{"dev", "aa"}, program{}, true, false, false, ""},
		{"higher", program{"v1.1", "aa"}, program{"v1.0", "bb"}, true, false, false, ""},
		{"lower, a person", program{"v1.0", "aa"}, program{"v1.1", "bb"}, false, false, false, "higher"},
		{"lower, a person who means it", program{"v1.0", "aa"}, program{"v1.1", "bb"}, false, true, false, ""},
		{"lower, unattended", program{"v1.0", "aa"}, program{"v1.1", "bb"}, true, false, false, "higher"},
		{"lower, put in its place", program{"v1.0", "aa"}, program{"v1.1", "bb"}, true, false, true, "higher"},
		{"unknown order, a person", program{"dev", "aa"}, program{"dev", "bb"}, false, false, false, ""},
		{"unknown order, unattended", program{"dev", "aa"}, program{"dev", "bb"}, true, false, false, "not known"},
		{"unknown order, put in its place", program{"dev", "aa"}, program{"dev", "bb"}, true, false, true, ""},
	} {
		s := &session{app: &app{version: c.own.Version}, house: &house{}}
		s.machine.Binary.SHA256, s.opts.downgrade = c.own.SHA256, c.downgrade
		if c.from {
			s.succeeds = c.site.SHA256
		}
		err := s.mayOverwrite(&record{Program: c.site}, c.unattended)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A failure is one line when it is new, whatever numbers come and go in it, and one when it is over.
func TestFailuresAreTold(t *testing.T) {
	var out, log bytes.Buffer
	path := filepath.Join(t.TempDir(), "events.jsonl")
	w := &watcher{app: &app{view: view.New(view.Options{Out: &out, Err: &log})}, ctx: context.Background(),
		failures: map[object.Address]failing{},
		notify:   &notifier{}, journal: &engine.Journal{Path: path, By: "watch"}}
	o := object.Object{Address: "unit/101/nginx.service"}
	for _, text := range []string{"port 80 is taken by pid 17", "port 80 is taken by pid 18"} {
		w.event(engine.Event{Stage: engine.Failed, Object: o, Err: errors.New(text)})
	}
	if n := strings.Count(log.String(), "unit/101/nginx.service: port 80 is taken by pid"); n != 1 {
		t.Errorf("told %d times\n%s", n, log.String())
	}
	w.event(engine.Event{Stage: engine.True, Object: o})
	w.event(engine.Event{Stage: engine.True, Object: o})
	if n := strings.Count(out.String(), "unit/101/nginx.service: well again after"); n != 1 {
		t.Errorf("its end told %d times\n%s", n, out.String())
	}
	list, err := engine.ReadJournal(path)
	if err != nil || len(list) == 0 || !strings.Contains(list[len(list)-1].Reason, "well again") {
		t.Errorf("%v, %v", list, err)
	}
}

func TestStamped(t *testing.T) {
	var out bytes.Buffer
	s := &stamped{out: &out, now: func() time.Time { return time.Unix(0, 0).UTC() }}
	for _, text := range []string{"one\ntwo", " goes on\n", "three\n"} {
		if n, err := s.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	const at = "1970-01-01 00:00:00 "
	if want := at + "one\n" + at + "two goes on\n" + at + "three\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// systemd hears when watch is ready, how things stand and that it is alive; what watch starts does not hear of systemd.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "60000")
	n := newNotifier()
	defer n.close()
	if os.Getenv("NOTIFY_SOCKET") != "" || os.Getenv("WATCHDOG_USEC") != "" {
		t.Error("the environment still names the socket")
	}
	n.send("READY=1", "STATUS=well")
	alive, ready := 0, false
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 1<<10); alive < 3 || !ready; {
		k, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		switch text := string(buf[:k]); text {
		case "WATCHDOG=1":
			alive++
		case "READY=1\nSTATUS=well":
			ready = true
		default:
			t.Errorf("%q", text)
		}
	}
	n.mu.Lock()
	n.last = time.Now().Add(-2 * workLimit) // stuck
	n.mu.Unlock()
	for range 20 { // what was on its way
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1<<10)); err != nil {
			break
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if k, err := conn.Read(make([]byte, 1<<10)); err == nil {
		t.Errorf("a stuck watch says that it is alive (%d bytes)", k)
	}
}
