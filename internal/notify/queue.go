package notify

import (
	"context"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

const (
	gather     = 3 * time.Second  // from the first event to the call: one cause has many effects
	retryMost  = 30 * time.Minute // between two calls while the command fails
	closeLimit = 2 * time.Second  // a call goes on for so long where phoenix ends
)

// Queue gathers events and has the command read them, one call at a time, at a bounded rate. None of its methods but
// Close waits. A nil Queue tells nobody.
type Queue struct {
	host     host.Host
	hostname string
	root     string
	result   func(error) // is called with what came of a call where that is another than the time before
	gather   time.Duration

	mu       sync.Mutex // guards what follows
	settings Settings
	failing  map[object.Address]*failing
	waiting  bool
	events   []Event
	dropped  int
	first    time.Time // when the oldest of events came
	last     time.Time // when the last call began
	failures int       // of calls, one after the other
	timer    *time.Timer
	cancel   context.CancelFunc // of the call under way; nil: there is none
	done     chan struct{}      // closed when that call has ended
	closed   bool
}

// failing is an object that is not as it should be, or was so a short while ago.
type failing struct {
	since    time.Time
	wellAt   time.Time // zero: it fails
	message  string
	fix      string
	reported bool
}

// New makes a queue of a site. result is called with what came of a call where that is another than before: why the
// command failed, or nil once it works again.
func New(h host.Host, hostname, root string, result func(error)) *Queue {
	return &Queue{host: h, hostname: hostname, root: root, result: result, gather: gather,
		failing: map[object.Address]*failing{}}
}

// Set takes over the settings of a configuration.
func (q *Queue) Set(s Settings) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.settings = s; len(s.Command) == 0 {
		q.events, q.dropped = nil, 0
	}
	q.schedule()
}

// Fail says that an object fails, or still does.
func (q *Queue) Fail(a object.Address, message, fix string) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.failing[a]
	if f == nil {
		f = &failing{since: time.Now()}
		q.failing[a] = f
	}
	f.wellAt, f.message, f.fix = time.Time{}, message, fix
	q.schedule()
}

// Over says that an object is as it should be. Its end is reported once it lasts, so that one that fails again and
// again is one failure.
func (q *Queue) Over(a object.Address) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if f := q.failing[a]; f != nil && f.wellAt.IsZero() {
		f.wellAt, f.message, f.fix = time.Now(), "", ""
		q.schedule()
	}
}

// Gone says that an object is not kept any more.
func (q *Queue) Gone(a object.Address) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if f := q.failing[a]; f != nil && f.wellAt.IsZero() {
		f.wellAt, f.message, f.fix = time.Now(), "it is not kept any more", ""
		q.schedule()
	}
}

// Waits says what of the configuration waits for a person; an empty message: nothing does any more.
func (q *Queue) Waits(message, fix string) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case message != "":
		q.waiting = true
		q.add(NewEvent(KindWaiting, "", message, fix, time.Now()))
	case q.waiting:
		q.waiting = false
		q.add(NewEvent(KindSettled, "", "", "", time.Now()))
	}
	q.schedule()
}

// Close ends it. A call under way has a moment to come to its end; what is not sent yet is lost.
func (q *Queue) Close() {
	if q == nil {
		return
	}
	q.mu.Lock()
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	cancel, done := q.cancel, q.done
	q.mu.Unlock()
	if cancel == nil {
		return
	}
	grace := time.AfterFunc(closeLimit, cancel)
	defer grace.Stop()
	<-done
}

// add puts an event at the end. Where too many wait the oldest go. The caller holds mu, as of all that follows.
func (q *Queue) add(e Event) {
	if len(q.settings.Command) == 0 {
		return
	}
	if len(q.events) == 0 {
		q.first = time.Now()
	}
	q.events = append(q.events, e)
	q.trim()
}

func (q *Queue) trim() {
	if more := len(q.events) - mostEvents; more > 0 {
		q.events, q.dropped = q.events[more:], q.dropped+more
	}
}

// collect makes events of failures that last, and of their ends.
func (q *Queue) collect(now time.Time) {
	after := q.settings.after()
	for a, f := range q.failing {
		switch {
		case !f.wellAt.IsZero() && now.Sub(f.wellAt) >= after:
			if delete(q.failing, a); f.reported {
				e := NewEvent(KindRecovery, a, f.message, "", f.wellAt)
				e.Since = f.since.UTC()
				q.add(e)
			}
		case f.wellAt.IsZero() && !f.reported && now.Sub(f.since) >= after && len(q.settings.Command) > 0:
			e := NewEvent(KindFailure, a, f.message, f.fix, now)
			e.Since, f.reported = f.since.UTC(), true
			q.add(e)
		}
	}
}

// due is when there is something to do next; zero: when somebody says something.
func (q *Queue) due() (at time.Time) {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if len(q.events) > 0 {
		sooner(q.sendAt())
	}
	for _, f := range q.failing {
		switch {
		case !f.wellAt.IsZero():
			sooner(f.wellAt.Add(q.settings.after()))
		case !f.reported && len(q.settings.Command) > 0:
			sooner(f.since.Add(q.settings.after()))
		}
	}
	return at
}

// sendAt is when the events may go out.
func (q *Queue) sendAt() time.Time {
	at := q.first.Add(q.gather)
	if !q.last.IsZero() {
		pause := q.settings.interval()
		if q.failures > 0 {
			pause = max(pause, min(pause<<min(q.failures-1, 10), retryMost))
		}
		if next := q.last.Add(pause); next.After(at) {
			at = next
		}
	}
	return at
}

func (q *Queue) schedule() {
	if q.timer != nil {
		q.timer.Stop()
	}
	at := q.due()
	if q.closed || q.cancel != nil || at.IsZero() {
		return
	}
	q.timer = time.AfterFunc(max(0, time.Until(at)), q.fire)
}

// fire does what is due.
func (q *Queue) fire() {
	q.mu.Lock()
	now := time.Now()
	q.collect(now)
	if q.closed || q.cancel != nil || len(q.events) == 0 || now.Before(q.sendAt()) {
		q.schedule()
		q.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	q.cancel, q.done, q.last = cancel, make(chan struct{}), now
	batch, dropped, settings := q.events, q.dropped, q.settings
	q.events, q.dropped = nil, 0
	q.mu.Unlock()

	err := Send(ctx, q.host, settings, Compose(q.hostname, q.root, batch, dropped, now))
	cancel()

	q.mu.Lock()
	before := q.failures
	if err == nil {
		q.failures = 0
	} else { // they go out with the next call
		q.failures++
		q.events, q.dropped = append(batch, q.events...), q.dropped+dropped
		q.trim()
	}
	q.cancel = nil
	close(q.done)
	told := q.result
	if q.closed || (err == nil) == (before == 0) {
		told = nil
	}
	q.schedule()
	q.mu.Unlock()
	if told != nil {
		told(err)
	}
}
