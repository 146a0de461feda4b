package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// stamped writes the time before each line.
type stamped struct {
	out io.Writer
	now func() time.Time
	mu  sync.Mutex // guards mid
	mid bool       // a line was begun
}

// Write implements io.Writer.
func (s *stamped) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b bytes.Buffer
	for line := range bytes.Lines(p) {
		if !s.mid {
			b.WriteString(s.now().Format(time.DateTime) + " ")
		}
		b.Write(line)
		s.mid = line[len(line)-1] != '\n'
	}
	if _, err := s.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// journalled is whether what is written there goes to systemd's journal, which adds the times (systemd.exec(5),
// $JOURNAL_STREAM).
func journalled(w io.Writer) bool {
	f, ok := w.(*os.File)
	var st syscall.Stat_t
	if !ok || syscall.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// tellLines has what is said be lines with times, for somebody who reads them later.
func (a *app) tellLines() {
	stamp := func(w io.Writer) io.Writer {
		if journalled(w) {
			return w
		}
		return &stamped{out: w, now: time.Now}
	}
	a.view = view.New(view.Options{Out: stamp(a.stdout), Err: stamp(a.stderr), JSON: a.opts.output == "json",
		Quiet:  a.opts.quiet,
		Advice: a.advice})
}

// failing is an object that is not as it should be.
type failing struct {
	since time.Time
	text  string // without numbers, which come and go
}

var numbers = regexp.MustCompile(`[0-9]+`)

// failed says a failure that is new; one that lasts is said once.
func (w *watcher) failed(ev engine.Event) {
	first, _, _ := strings.Cut(strings.TrimPrefix(ev.Err.Error(), string(ev.Object.Address)+": "), "\n")
	text := numbers.ReplaceAllString(first, "N")
	w.telling.Lock()
	defer w.telling.Unlock()
	w.alerts.Fail(ev.Object.Address, first, w.advice(engine.Advice(ev.Err)))
	old, known := w.failures[ev.Object.Address]
	if known && old.text == text {
		return
	}
	if !known {
		old.since = time.Now()
	}
	w.failures[ev.Object.Address] = failing{since: old.since, text: text}
	w.view.Error(fmt.Errorf("%s: %s (%s)", ev.Object.Address, first, engine.RetryText(ev.Err)), engine.Advice(ev.Err))
}

// over says that what had failed is as it should be.
func (w *watcher) over(a object.Address) {
	w.alerts.Over(a)
	w.telling.Lock()
	defer w.telling.Unlock()
	f, known := w.failures[a]
	if !known {
		return
	}
	delete(w.failures, a)
	what := "well again after " + time.Since(f.since).Round(100*time.Millisecond).String()
	w.view.Step(string(a) + ": " + what)
	if err := w.journal.Write(engine.Entry{Object: a, Reason: what}); err != nil {
		w.log.Warn("the event was not written down", "error", err)
	}
}

// forgetFailures drops those of objects that are not kept any more.
func (w *watcher) forgetFailures(r engine.Round) {
	if !r.Full {
		return
	}
	w.telling.Lock()
	defer w.telling.Unlock()
	for a := range w.failures {
		_, seen := r.Result.Statuses[a]
		if !seen && !slices.ContainsFunc(r.Result.Failures, func(f engine.Failure) bool { return f.Address == a }) {
			delete(w.failures, a)
			w.alerts.Gone(a)
		}
	}
}

// state is one line about how things stand, for systemctl status.
func (w *watcher) state() string {
	if !w.site.made && w.trouble != "" {
		return w.trouble
	}
	if !w.site.made {
		return "nothing to keep"
	}
	out := fmt.Sprintf("keeps %s", strings.Join(w.ids, ", "))
	w.telling.Lock()
	defer w.telling.Unlock()
	if len(w.failures) > 0 {
		var names []string
		for a := range w.failures {
			names = append(names, string(a))
		}
		slices.Sort(names)
		out += "; failing: " + short(names)
	}
	if w.waits != "" {
		out += "; " + w.advice("changes of the files wait for phoenix apply")
	}
	return out
}

// workLimit is how long watch may be at one thing before it counts as stuck: building a template takes the longest.
const workLimit = 40 * time.Minute

// notifier tells systemd how things stand (sd_notify(3)). The zero value tells nobody.
type notifier struct {
	conn *net.UnixConn
	mu   sync.Mutex // guards what follows
	last time.Time  // of progress
	beat *time.Timer
}

// newNotifier takes the socket out of the environment, which containers inherit.
func newNotifier() *notifier {
	n := &notifier{last: time.Now()}
	address, every := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // names are good
	}
	if address == "" {
		return n
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return n // nobody listens
	}
	n.conn = conn
	if usec, err := strconv.ParseInt(every, 10, 64); err == nil && usec > 0 {
		n.alive(time.Duration(usec) * time.Microsecond / 3)
	}
	return n
}

func (n *notifier) send(lines ...string) {
	if n.conn != nil {
		_, _ = n.conn.Write([]byte(strings.Join(lines, "\n"))) // systemd may be restarting
	}
}

// alive tells the watchdog so, again and again, as long as there is progress.
func (n *notifier) alive(every time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.last) < workLimit {
		n.send("WATCHDOG=1")
	}
	n.beat = time.AfterFunc(every, func() { n.alive(every) })
}

func (n *notifier) progress() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = time.Now()
}

func (n *notifier) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.beat != nil {
		n.beat.Stop()
	}
}

// begins is the first line.
func (w *watcher) begins() {
	var files []string
	for _, f := range w.session.files.list {
		files = append(files, f.Name)
	}
	w.view.Step(fmt.Sprintf("phoenix %s watches containers %s as %s say, below %s (pid %d)", w.programName(),
		strings.Join(w.session.ids(), ", "),
		strings.Join(files, " and "), w.session.machine.Root, os.Getpid()))
	w.notify.send("READY=1", "STATUS=begins")
}

// ends is the last line.
func (w *watcher) ends(err error) {
	why := "it was told to"
	switch {
	case errors.Is(err, errReplaced):
		why = "its program was replaced, which begins now"
	case err != nil:
		why = err.Error()
	default:
		w.notify.send("STOPPING=1")
	}
	w.notify.close()
	w.view.Step(fmt.Sprintf("phoenix %s ends: %s (pid %d)", w.programName(), why, os.Getpid()))
}
