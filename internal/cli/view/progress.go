package view

import (
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// progress shows events. event may be called at once by many; end is last.
type progress interface {
	event(engine.Event)
	end()
}

type silent struct{}

func (silent) event(engine.Event) {}
func (silent) end()               {}

// aside is what is said of an event that is about no object; empty: nothing.
func aside(e engine.Event) string {
	switch e.Stage {
	case engine.Waiting:
		return "waiting: " + e.Err.Error()
	case engine.Stopping:
		return "stopping: what is under way comes to its end; a second signal ends at once"
	}
	return ""
}

// lines writes one plain line for each change that was made.
type lines struct {
	mu       sync.Mutex // guards all
	out, err io.Writer
	retried  map[object.Address]time.Duration // how long each was being tried when that was said last
}

const (
	firstRetryLine = 2 * time.Second  // what is tried again for a moment only is not worth a line
	nextRetryLine  = 10 * time.Second // between two lines about one object
)

// retries says now and then that an object is tried again, and why.
func (l *lines) retries(e engine.Event) {
	last, said := l.retried[e.Object.Address]
	switch {
	case e.Stage != engine.Retrying:
		delete(l.retried, e.Object.Address)
	case said && e.Elapsed >= last && e.Elapsed < last+nextRetryLine, e.Elapsed < firstRetryLine:
	default:
		if l.retried == nil {
			l.retried = map[object.Address]time.Duration{}
		}
		l.retried[e.Object.Address] = e.Elapsed
		fmt.Fprintf(l.err, "retrying %s: %s\n", e.Object.Address, attempt(e))
	}
}

// attempt is where the tries of an object stand: "attempt 3 failed, next in 2s, for up to 48s more: no route to host".
func attempt(e engine.Event) string {
	first, _, _ := strings.Cut(e.Err.Error(), "\n")
	first = strings.TrimPrefix(first, string(e.Object.Address)+": ")
	return fmt.Sprintf("attempt %d failed, next in %s, for up to %s more: %s", e.Try.Failed, shortly(e.Try.Next),
		shortly(e.Try.Left), clean.Line(first, cellLimit))
}

// shortly is a duration without what nobody reads of it.
func shortly(d time.Duration) string {
	if d < time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (l *lines) event(e engine.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if said := aside(e); said != "" {
		fmt.Fprintln(l.err, said)
	}
	l.retries(e)
	if e.Stage != engine.Changed {
		return
	}
	fmt.Fprintf(l.out, "changed %s (%s) %.1fs\n", e.Object.Address, what(e), e.Elapsed.Seconds())
}

func (l *lines) end() {}

// what is the action and why: "create: the volume does not exist", "update: mode, owner".
func what(e engine.Event) string {
	reason := e.Delta.Reason
	if reason == "" {
		var paths []string
		for _, f := range e.Delta.Fields {
			paths = append(paths, f.Path)
		}
		reason = strings.Join(paths, ", ")
	}
	reason = clean.Line(reason, cellLimit)
	if reason == "" {
		return string(e.Delta.Action)
	}
	return string(e.Delta.Action) + ": " + reason
}

// live draws one line a container over and over, on a terminal. It draws when something happens only: no timer, no
// spinner.
type live struct {
	mu    sync.Mutex // guards what follows
	out   io.Writer
	width int
	rows  map[string]*row
	drawn int    // lines on the screen that are ours
	frame string // what stands in them
}

type row struct {
	busy    map[object.Address]string // what is under way
	changes int
	failed  object.Address
}

func (l *live) event(e engine.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := e.Object.Container
	if host := l.rows[""]; host != nil {
		delete(host.busy, "") // what was waited for goes on
	}
	r := l.rows[name]
	if r == nil {
		r = &row{busy: map[object.Address]string{}}
		l.rows[name] = r
	}
	delete(r.busy, e.Object.Address)
	switch e.Stage {
	case engine.Waiting, engine.Stopping:
		r.busy[""] = aside(e)
	case engine.Changing:
		r.busy[e.Object.Address] = string(e.Object.Address) + " (" + what(e) + ")"
	case engine.Retrying:
		r.busy[e.Object.Address] = string(e.Object.Address) + " " + attempt(e)
	case engine.Changed:
		r.changes++
	case engine.Failed:
		if r.failed == "" {
			r.failed = e.Object.Address
		}
	case engine.True:
	}
	l.draw()
}

func (l *live) draw() {
	var b strings.Builder
	names := l.names()
	for _, n := range names {
		b.WriteString("\x1b[2K" + cut(l.rows[n].line(n), l.width) + "\n")
	}
	if b.String() == l.frame {
		return
	}
	up := ""
	if l.drawn > 0 {
		up = fmt.Sprintf("\x1b[%dA", l.drawn)
	}
	l.drawn, l.frame = len(names), b.String()
	io.WriteString(l.out, up+l.frame)
}

func (l *live) names() []string {
	names := make([]string, 0, len(l.rows))
	for n := range l.rows {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool { return number(names[i]) < number(names[j]) })
	return names
}

// number puts the hypervisor, which has no id, first.
func number(id string) int {
	n, _ := strconv.Atoi(id)
	return n
}

func (r *row) line(name string) string {
	if name == "" {
		name = "host"
	}
	var busy []string
	for _, text := range r.busy {
		busy = append(busy, text)
	}
	sort.Strings(busy)
	state := strings.Join(busy, "; ")
	switch {
	case state != "":
	case r.failed != "":
		state = "failed at " + string(r.failed)
	default:
		state = "true so far"
	}
	return fmt.Sprintf("%-5s %11s  %s", name, count(r.changes, "change"), state)
}

func cut(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) < width {
		return s
	}
	return string([]rune(s)[:max(0, width-2)]) + "…"
}

// end leaves the lines standing as a record; a run that changed nothing leaves none.
func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	quiet := true
	for _, r := range l.rows {
		quiet = quiet && r.changes == 0 && r.failed == ""
	}
	if quiet && l.drawn > 0 {
		fmt.Fprintf(l.out, "\x1b[%dA\x1b[J", l.drawn)
	}
	l.drawn, l.frame, l.rows = 0, "", map[string]*row{}
}
