package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// receiver is a script of root's that keeps what it is given; more is what it does besides.
func receiver(t *testing.T, more string) (script, box string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the command has to be root's")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	box, script = filepath.Join(dir, "box"), filepath.Join(dir, "tell")
	if err := os.Mkdir(box, 0o755); err != nil {
		t.Fatal(err)
	}
	text := "#!/bin/sh\n" + more + "\nf=" + box + "/$$\nenv | sort >$f.env\necho \"$*\" >>$f.env\n" +
		"cat >$f.part\nmv $f.part $f.json\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script, box
}

// came are the messages so far, in no order.
func came(t *testing.T, box string) (out []Message) {
	t.Helper()
	files, err := filepath.Glob(box + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var m Message
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, raw)
		}
		out = append(out, m)
	}
	return out
}

func events(list []Message) (out []Event) {
	for _, m := range list {
		out = append(out, m.Events...)
	}
	return out
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func queue(t *testing.T, s Settings, result func(error)) *Queue {
	t.Helper()
	q := New(&host.Local{Grace: 100 * time.Millisecond}, "pve1", "/var/lib/phoenix", result)
	q.gather = 50 * time.Millisecond
	q.Set(s)
	t.Cleanup(q.Close)
	return q
}

// A failure that lasts is reported with what to do, and so is its end; one that is over at once is not. What came
// together is one call, and the environment has names only.
func TestReports(t *testing.T) {
	script, box := receiver(t, "")
	q := queue(t, Settings{Command: []string{script, "a b", "$HOME"}, After: 300 * time.Millisecond,
		Interval: 100 * time.Millisecond}, nil)
	q.Fail("unit/101/nginx.service", "port 80 is taken\x1b[31m", "phoenix health 101")
	q.Fail("unit/102/traefik.service", "ended right after its start", "")
	q.Fail("dns/vmbr0", "a moment", "")
	q.Over("dns/vmbr0")
	q.Waits("1 of its changes", "phoenix apply")
	until(t, "two failures and a change", func() bool { return len(events(came(t, box))) >= 3 })
	list := came(t, box)
	if len(list) > 2 { // the change at once, the failures once they last
		t.Errorf("%d calls", len(list))
	}
	kinds := map[string]int{}
	for _, e := range events(list) {
		kinds[e.Kind]++
		if e.Object == "unit/101/nginx.service" && (e.Container != "101" || e.Fix != "phoenix health 101" ||
			strings.Contains(e.Message, "\x1b") || e.Since.IsZero()) {
			t.Errorf("%+v", e)
		}
	}
	if kinds[KindFailure] != 2 || kinds[KindWaiting] != 1 || len(kinds) != 2 {
		t.Errorf("%v", kinds)
	}
	q.Over("unit/101/nginx.service")
	q.Fail("unit/101/nginx.service", "again", "") // one failure, that comes and goes
	q.Over("unit/101/nginx.service")
	q.Waits("", "")
	until(t, "its end", func() bool { return strings.Count(fmt.Sprint(events(came(t, box))), KindRecovery) == 1 })
	env, err := filepath.Glob(box + "/*.env")
	if err != nil || len(env) == 0 {
		t.Fatal(env, err)
	}
	raw, err := os.ReadFile(env[0])
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	if !strings.HasSuffix(text, "\na b $HOME\n") || !strings.Contains(text, "\nPHOENIX_HOST=pve1\n") ||
		!strings.Contains(text, "\nPHOENIX_SUMMARY=phoenix on pve1: ") || strings.Contains(text, "port 80") {
		t.Errorf("arguments and environment:\n%s", text)
	}
}

// A command that hangs holds up nobody, is ended with all that it started, and what it did not take goes out again.
func TestHangingCommand(t *testing.T) {
	script, box := receiver(t, `[ -e "$0.well" ] || { echo $$ >"$0.pid"; sleep 1000; }`)
	results := make(chan error, 10)
	q := queue(t, Settings{Command: []string{script}, After: time.Millisecond, Interval: time.Millisecond,
		Timeout: time.Second}, func(err error) { results <- err })
	start := time.Now()
	q.Fail("unit/101/nginx.service", "it fails", "")
	until(t, "the command runs", func() bool { _, err := os.Stat(script + ".pid"); return err == nil })
	begun := time.Now()
	for i := range 1000 {
		a := object.NewAddress("file", "101", fmt.Sprint(i))
		q.Fail(a, "it fails", "")
		q.Over(a)
		q.Waits("a change", "")
	}
	if took := time.Since(begun); took > time.Second { // 3,000 calls, while the command hangs
		t.Errorf("they took %s", took)
	}
	if err := <-results; err == nil || !strings.Contains(err.Error(), "gave up after 1s") {
		t.Fatalf("after %s: %v", time.Since(start), err)
	}
	until(t, "it is called again", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.failures > 1 })
	if len(results) > 0 {
		t.Errorf("its failure was told again: %v", <-results)
	}
	if err := os.WriteFile(script+".well", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-results; err != nil {
		t.Errorf("that it works again is told as %v", err)
	}
	for _, m := range came(t, box) {
		if len(m.Events) > mostEvents || m.Dropped == 0 {
			t.Errorf("%d events, %d dropped", len(m.Events), m.Dropped)
		}
	}
}

// Whoever ends phoenix does not wait for a command that hangs.
func TestClose(t *testing.T) {
	script, _ := receiver(t, `echo >"$0.begun"; sleep 1000`)
	q := queue(t, Settings{Command: []string{script}, Timeout: 10 * time.Minute}, nil)
	q.Waits("a change", "")
	until(t, "the command runs", func() bool { _, err := os.Stat(script + ".begun"); return err == nil })
	start := time.Now()
	q.Close()
	if took := time.Since(start); took > 3*closeLimit {
		t.Errorf("it took %s", took)
	}
}

// At most one call within the interval; without a command nothing is kept.
func TestRate(t *testing.T) {
	script, box := receiver(t, "")
	q := queue(t, Settings{Command: []string{script}, Interval: time.Hour}, nil)
	q.Waits("one", "")
	until(t, "the first", func() bool { return len(came(t, box)) == 1 })
	q.Waits("two", "")
	time.Sleep(300 * time.Millisecond)
	q.mu.Lock()
	if pause := time.Until(q.sendAt()); len(q.events) != 1 || pause < 50*time.Minute {
		t.Errorf("%d events are sent in %s", len(q.events), pause)
	}
	q.mu.Unlock()
	q.Set(Settings{})
	q.Waits("three", "")
	q.Fail("unit/101/nginx.service", "it fails", "")
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) != 0 || !q.due().IsZero() {
		t.Errorf("%+v", q.events)
	}
}

// Nobody is told by what others could have put there.
func TestCheck(t *testing.T) {
	script, box := receiver(t, "")
	dir := filepath.Dir(script)
	h := &host.Local{}
	link := filepath.Join(dir, "link")
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Symlink("tell", link), os.Mkdir(open, 0o755), os.Chmod(open, 0o777),
		os.WriteFile(filepath.Join(open, "tell"), nil, 0o755), os.Symlink(open, filepath.Join(dir, "way")),
		os.Symlink("loop", filepath.Join(dir, "loop"))); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		script: "", link: "", "/bin/sh": "", "tell": "not an absolute path",
		script + ".not": "there is no", box: "no regular file", script + "/x": "no directory",
		filepath.Join(open, "tell"): "written by others", filepath.Join(dir, "way", "tell"): "written by others",
		filepath.Join(dir, "loop"): "leads nowhere",
	} {
		if err := Check(h, path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for want, change := range map[string]func() error{
		"written by others": func() error { return os.Chmod(script, 0o775) },
		"not executable":    func() error { return os.Chmod(script, 0o644) },
		"belongs to uid 1":  func() error { return errors.Join(os.Chmod(script, 0o755), os.Chown(script, 1, 1)) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		err := Send(context.Background(), h, Settings{Command: []string{script}}, Message{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err := errors.Join(os.Chown(script, 0, 0), os.Chmod(script, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if list := came(t, box); len(list) > 0 {
		t.Errorf("it was run: %+v", list)
	}
}

// A summary fits into a subject, whatever happened.
func TestSummary(t *testing.T) {
	var list []Event
	for i := range 50 {
		a := object.NewAddress("file", fmt.Sprint(100+i), "x")
		list = append(list, NewEvent(KindFailure, a, "a\nb", "", time.Now()))
	}
	m := Compose("pve1", "/r", append(list, NewEvent(KindWaiting, "", "x", "", time.Now())), 7, time.Now())
	if len(m.Summary) > mostSummary || !strings.Contains(m.Summary, "47 more") ||
		!strings.Contains(m.Summary, "a change of the configuration: waits for phoenix apply") {
		t.Errorf("%q", m.Summary)
	}
	if !strings.Contains(m.Text, "7 earlier events") || !strings.Contains(m.Text, "file/149/x fails") {
		t.Errorf("%s", m.Text)
	}
}
