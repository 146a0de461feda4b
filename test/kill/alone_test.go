package kill

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually waits for something that another process brings about.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// paused starts create and returns once it has come to a call, before which it waits.
func (h *hypervisor) paused(where, what string, args ...string) (*process, point) {
	h.t.Helper()
	i := slices.IndexFunc(h.made, func(p point) bool { return p.where == where && strings.HasPrefix(p.what, what) })
	p := point{where: where, what: what, nth: 1, fault: "pause"}
	if i >= 0 {
		p.what = h.made[i].what
	}
	a := h.start(h.watch(p), args...)
	eventually(h.t, "it comes to "+p.String(), func() bool {
		_, err := os.Stat(h.calls(p.where) + ".struck")
		return err == nil
	})
	return a, p
}

// resume lets it go on.
func (h *hypervisor) resume(p point) {
	h.t.Helper()
	if err := os.WriteFile(h.calls(p.where)+".go", nil, 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// counted are the changes made since the reset, with how often each was.
func (h *hypervisor) counted() map[string]int {
	h.t.Helper()
	n := map[string]int{}
	for _, id := range append([]string{""}, ids...) {
		raw, err := os.ReadFile(h.calls(id))
		if err != nil && !os.IsNotExist(err) {
			h.t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			n[id+": "+strings.TrimSuffix(line, "\n")]++
		}
	}
	return n
}

// once wants every change of the reference to have been made, and none more often than there. That a directory is there
// by now may be seen too late within one process too.
func (h *hypervisor) once() {
	h.t.Helper()
	want := map[string]int{}
	for _, p := range h.made {
		if !p.looks() {
			want[p.where+": "+p.what] = p.nth
		}
	}
	have := h.counted()
	for what, n := range have {
		if n > want[what] && !strings.Contains(what, ": mkdir ") {
			h.t.Errorf("made %d times, want %d: %s", n, want[what], what)
		}
	}
	for what := range want {
		if have[what] == 0 {
			h.t.Errorf("not made: %s", what)
		}
	}
}

// Two at once do together what one does.
func TestTwoAtOnce(t *testing.T) {
	for _, h := range hypervisors(t) {
		h.reset()
		env := h.watch(point{})
		a, b := h.start(env, create...), h.start(env, create...)
		for _, p := range []*process{a, b} {
			if r := p.wait(); r.exit != 0 {
				t.Fatalf("one of two: %s", r)
			}
		}
		h.once()
		h.quiet()
		h.unchanged()
		h.same("after two at once", h.want)
	}
}

// Who waits for another says for whom: as it waits, and as it gives up.
func TestSecondWaits(t *testing.T) {
	h := hypervisors(t)[0]
	h.reset()
	a, p := h.paused("", "run ip -batch -", create...)
	holder := fmt.Sprintf("%s create 103 101 102 (pid %d, since ", h.path("root"), a.cmd.Process.Pid)
	holder = holder[strings.Index(holder, " create"):]

	r := h.phoenix(h.watch(point{}), append(slices.Clone(create), "--timeout", "700ms")...)
	doc := h.document(r)
	if r.exit != 1 || !strings.Contains(doc.Stopped, holder) ||
		!strings.Contains(doc.Stopped, "--timeout 700ms is over") {
		t.Errorf("want exit 1 and the holder%s...: %s", holder, r)
	}
	if len(doc.Changes) > 0 || len(doc.Left) == 0 {
		t.Errorf("want no change, and what is left: %s", r)
	}

	b := h.start(h.watch(point{}), create...)
	eventually(t, "the second says for whom it waits",
		func() bool { return strings.Contains(b.stderr.String(), "waiting: ") })
	if said := b.stderr.String(); !strings.Contains(said, holder) {
		t.Errorf("want the holder%s...: %s", holder, said)
	}
	h.resume(p)
	for _, p := range []*process{a, b} {
		if r := p.wait(); r.exit != 0 {
			t.Fatalf("one of two: %s", r)
		}
	}
	h.once()
	h.quiet()
	h.unchanged()
	h.same("after two", h.want)
}

// A holder that was killed holds nothing, also where its process id is another's by now.
func TestStaleLock(t *testing.T) {
	h := hypervisors(t)[0]
	h.reset()
	a, _ := h.paused("", "run ip -batch -", create...)
	raw, err := os.ReadFile(h.path("root", "lock"))
	var holder struct {
		PID int `json:"pid"`
	}
	if err != nil || json.Unmarshal(raw, &holder) != nil || holder.PID != a.cmd.Process.Pid {
		t.Fatalf("the lock's file does not name its holder %d: %s (%v)", a.cmd.Process.Pid, raw, err)
	}
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.wait()
	lives := strings.Replace(string(raw), fmt.Sprint(holder.PID), fmt.Sprint(os.Getpid()), 1)
	if err := os.WriteFile(h.path("root", "lock"), []byte(lives), 0o600); err != nil {
		t.Fatal(err)
	}
	h.quiet()
	r := h.phoenix(nil, create...)
	if r.exit != 0 || strings.Contains(r.stderr, "waiting") {
		t.Errorf("a stale lock is waited for: %s", r)
	}
	h.recovers()
}

// settled waits until nothing else is done than to wait at the pause.
func (h *hypervisor) settled() map[string]int {
	h.t.Helper()
	last, since := h.counted(), time.Now()
	for time.Since(since) < 400*time.Millisecond {
		time.Sleep(20 * time.Millisecond)
		if now := h.counted(); len(now) != len(last) {
			last, since = now, time.Now()
		}
	}
	return last
}

// The first signal lets the step under way come to its end, and what is left is told.
func TestInterrupted(t *testing.T) {
	steps := map[string]struct{ where, what, address string }{
		"phoenix": {"", "run lxc-start -P BASE/root/lxc -n 103", "running/103"},
		"agent":   {"103", "write BASE/root/lxc/103/rootfs/objects/stepca_103", "stepca/103"},
	}
	for who, step := range steps {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(who+" "+signal.String(), func(t *testing.T) {
				h := hypervisors(t)[0]
				h.reset()
				a, p := h.paused(step.where, step.what, create...)
				before := h.settled()
				h.signal(a, signal)
				h.resume(p)
				r := a.wait()
				if after := h.counted(); len(after) != len(before) {
					t.Errorf("more was done than the step under way: %v, then %v", before, after)
				}
				h.quiet()
				h.stopped(r, signal, step.address)
				h.recovers()
			})
		}
	}
}

// signal sends one, and waits until it was understood. The step under way is not cut off.
func (h *hypervisor) signal(a *process, signal syscall.Signal) {
	h.t.Helper()
	if err := a.cmd.Process.Signal(signal); err != nil {
		h.t.Fatal(err)
	}
	eventually(h.t, "it says that it stops", func() bool { return strings.Contains(a.stderr.String(), "stopping: ") })
	time.Sleep(100 * time.Millisecond)
	if syscall.Kill(a.cmd.Process.Pid, 0) != nil {
		h.t.Error("it did not wait for the step under way")
	}
}

// stopped wants what is left to be told: all that a plan would change, and what was not looked at. The step that was
// under way is not among it.
func (h *hypervisor) stopped(r result, signal syscall.Signal, address string) {
	h.t.Helper()
	doc := h.document(r)
	if r.exit != 1 || !strings.Contains(doc.Stopped, signal.String()) {
		h.t.Errorf("want exit 1, stopped by %s: %s", signal, r)
	}
	planned, _ := h.changes(0, append([]string{"plan"}, ids...)...)
	for _, c := range planned.Changes {
		if !slices.Contains(doc.Left, c.Address) {
			h.t.Errorf("%s is left, and not told: %v", c.Address, doc.Left)
		}
	}
	if len(planned.Changes) == 0 {
		h.t.Error("nothing is left: the test proves nothing")
	}
	if slices.Contains(doc.Left, address) ||
		!slices.ContainsFunc(doc.Changes, func(c change) bool { return c.Address == address }) {
		h.t.Errorf("%s was not brought to its end: %s", address, r)
	}
}

// The second signal ends at once.
func TestSecondSignal(t *testing.T) {
	h := hypervisors(t)[0]
	h.reset()
	a, _ := h.paused("", "run lxc-start -P BASE/root/lxc -n 103", create...)
	h.signal(a, syscall.SIGINT)
	if err := a.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if r := a.wait(); r.exit != -1 || time.Since(start) > 10*time.Second {
		t.Errorf("after %s: %s", time.Since(start), r)
	}
	h.quiet()
	h.recovers()
}

// So it is where containers are stopped.
func TestStopInterrupted(t *testing.T) {
	h := hypervisors(t)[0]
	h.reset()
	h.quiet()
	h.changes(0, create...)
	a, p := h.paused("", "run lxc-stop -P BASE/root/lxc -n 102 --timeout 30", append([]string{"stop"}, ids...)...)
	h.signal(a, syscall.SIGINT)
	h.resume(p)
	r := a.wait()
	if r.exit != 1 || !strings.Contains(r.stdout, "not done: running/103, running/101") {
		t.Errorf("want exit 1, and what is left: %s", r)
	}
	h.quiet()
	h.changes(0, create...)
	h.unchanged()
}
