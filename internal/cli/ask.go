package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

const (
	checksOfOne = 8                       // that look around in one place at once; checksAtOnce in all
	patience    = 1500 * time.Millisecond // then checks do not wait any more for those that may explain their failure
	checkGrace  = 200 * time.Millisecond  // for a check's command to end when it is told to
	// for a container's agent to pass on what a check found, beyond the check's own limit
	answerMargin = time.Second
)

// inquiry is one health check of a house. Whatever hangs, it ends a few seconds after it was begun: each check has a
// limit of its own, no check waits for one that hangs unless it cannot be asked without, and a container whose agent
// fell silent is asked nothing more.
type inquiry struct {
	*session
	all   chan struct{} // a place for each check at work
	mu    sync.Mutex    // guards what follows
	rooms map[string]chan struct{}
	mute  map[string]error // why, by container
	way   asking
	tries []string // what is to be said of those that are tried again
	tried bool     // there were such

	issuedOnce   sync.Once
	issuedReport issued.Report
	issuedErr    error
}

// asking is what is done about an application's own check that fails.
type asking uint8

const (
	once    asking = iota // it has failed
	patient               // it is tried again, as the configuration says
	last                  // that is over
)

// check asks once.
func (s *session) check(ctx context.Context, objects []object.Object) health.Report {
	return s.inquiry(once).report(ctx, objects)
}

// checkPatiently is the check at the end of a run: an application that the configuration gives some time to come up has
// that time. Nothing else waits for it, and what was not well at first is looked at once more when it is up.
func (s *session) checkPatiently(ctx context.Context, objects []object.Object) health.Report {
	q := s.inquiry(patient)
	report := q.report(ctx, objects)
	if q.tried && !report.Healthy && ctx.Err() == nil {
		report = s.inquiry(last).report(ctx, objects)
	}
	return report
}

func (s *session) inquiry(way asking) *inquiry {
	return &inquiry{session: s, way: way, all: make(chan struct{}, checksAtOnce), rooms: map[string]chan struct{}{},
		mute: map[string]error{}}
}

// report runs every check of the objects where it belongs, as many at once as can be.
func (q *inquiry) report(ctx context.Context, objects []object.Object) health.Report {
	s := q.session
	checks := health.Resolve(health.Derive(objects), health.ReadPins(s.host, objects))
	if s.filterSettled() {
		checks = health.Settled(checks)
	}
	if c, ok := health.Watch(s.watchSeen()); ok {
		checks = append(checks, c)
	}
	board := health.NewBoard(checks)
	begun := time.Now()
	next := func() []health.Check {
		if time.Since(begun) > patience {
			board.Hurry()
		}
		q.tell()
		return board.Ready()
	}
	engine.Stream(patience/4, next, func(c health.Check) health.Result { return q.patiently(ctx, c) }, board.Done)
	return board.Report()
}

// patiently runs a check and, where it may be, tries again after a failure.
func (q *inquiry) patiently(ctx context.Context, c health.Check) health.Result {
	r := q.one(ctx, c)
	vain := r.Vain
	r.Vain = false
	switch {
	case c.Again == nil || r.Status == health.Pass || vain:
		return r
	case q.way == once:
		r.Fix += fmt.Sprintf("; asked once: phoenix up asks up to %d times more, %s apart", c.Again.Times,
			time.Duration(c.Again.Every))
		return r
	case q.way == last:
		r.Evidence = fmt.Sprintf("tried %d times more, %s apart: %s", c.Again.Times, time.Duration(c.Again.Every),
			r.Evidence)
		return r
	}
	q.say(fmt.Sprintf("container %s is not up yet by its own health_check: it is tried up to %d times more, %s apart",
		c.Host, c.Again.Times, time.Duration(c.Again.Every)))
	tick := time.NewTicker(time.Duration(c.Again.Every))
	defer tick.Stop()
	said := time.Now()
	for n := 0; n < c.Again.Times && r.Status != health.Pass; n++ {
		if n > 0 && time.Since(said) >= attemptLine {
			said = time.Now()
			q.say(fmt.Sprintf("container %s: attempt %d of %d of its health_check failed, next in %s: %s", c.Host, n+1,
				c.Again.Times+1, time.Duration(c.Again.Every), clean.Line(r.Evidence, sayLimit)))
		}
		select {
		case <-ctx.Done():
			return r
		case <-tick.C:
			q.hear(c.Host)
			r = q.one(ctx, c)
			r.Vain = false
		}
	}
	return r
}

// attemptLine is how far two lines about the attempts of one check are apart.
var attemptLine = 4 * time.Second

const sayLimit = 200 // bytes of what a check says that stand in a line

func (q *inquiry) say(what string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tries, q.tried = append(q.tries, what), true
}

// hear gives a container's agent that fell silent another chance.
func (q *inquiry) hear(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.mute, id)
}

// tell shows what there is to say, from the one goroutine that may.
func (q *inquiry) tell() {
	q.mu.Lock()
	tries := q.tries
	q.tries = nil
	q.mu.Unlock()
	for _, what := range tries {
		q.view.Step(what)
	}
}

// one runs a check once there is a place for it. Those that only wait for others need none.
func (q *inquiry) one(ctx context.Context, c health.Check) health.Result {
	if !c.Waits() {
		for _, places := range []chan struct{}{q.room(c.Host), q.all} {
			places <- struct{}{}
			defer func() { <-places }()
		}
	}
	limit := c.Limit() + answerMargin
	ask := q.outside
	switch {
	case health.AboutIssued(c):
		ask = q.issued
	case c.Host != "":
		ask = q.inside
	}
	r, ok := engine.Within(limit+checkGrace, func() health.Result {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
		defer cancel()
		return ask(ctx, c)
	})
	if !ok { // it cannot even be stopped
		return health.Failed(c, fmt.Errorf("no answer within %s", limit))
	}
	return r
}

func (q *inquiry) room(place string) chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rooms[place] == nil {
		q.rooms[place] = make(chan struct{}, checksOfOne)
	}
	return q.rooms[place]
}

func (q *inquiry) outside(ctx context.Context, c health.Check) health.Result {
	return health.Run(ctx, q.host, c)
}

// inside hands a check to the container's agent.
func (q *inquiry) inside(ctx context.Context, c health.Check) health.Result {
	if err := q.silent(c.Host); err != nil {
		return health.Failed(c, err)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return health.Failed(c, err)
	}
	client, err := q.links.any(ctx, c.Host)
	if err != nil {
		return health.Failed(c, err)
	}
	answer, err := client.Check(ctx, raw, checkLimit(c))
	if errors.Is(err, engine.ErrDisconnected) && q.silent(c.Host) == nil {
		// The session was an older one; the container may have been restarted since.
		q.links.lost(c.Host, client)
		if client, err = q.links.any(ctx, c.Host); err == nil {
			answer, err = client.Check(ctx, raw, checkLimit(c))
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, engine.ErrUnresponsive) {
		q.silence(c.Host, client)
	}
	var r health.Result
	if err == nil {
		err = json.Unmarshal(answer, &r)
	}
	if err != nil {
		return health.Failed(c, err)
	}
	return health.Said(c, r)
}

// checkLimit bounds what an agent may answer to a check. The time is the check's own, with what it takes to pass it on.
func checkLimit(c health.Check) agent.Answer {
	return agent.Answer{Bytes: 16 << 10, String: 2 << 10, Within: c.Limit() + 2*answerMargin}
}

// issued compares what the CA issued with what all containers say, once for all checks about it.
func (q *inquiry) issued(ctx context.Context, c health.Check) health.Result {
	q.issuedOnce.Do(func() { q.issuedReport, q.issuedErr = q.issuance(ctx) })
	return health.Issued(c, q.issuedReport, q.issuedErr)
}

func (q *inquiry) silent(id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mute[id]
}

// silence ends the session with an agent that did not answer in time: its end would be waited for in vain.
func (q *inquiry) silence(id string, client *agent.Client) {
	q.mu.Lock()
	q.mute[id] = errors.New("the agent in there has stopped answering")
	q.mu.Unlock()
	if client != nil {
		client.Kill()
	}
}

// filterSettled is whether whoever keeps Proxmox's firewalls has seen the last change of their rules for sure.
func (s *session) filterSettled() bool {
	if s.machine.Proxmox == nil {
		return true
	}
	dir := filepath.Join(s.machine.Proxmox.Dir, "firewall")
	names, err := s.host.ReadDir(dir)
	if err != nil {
		return true // there are none
	}
	for _, name := range names {
		m, err := s.host.Lstat(filepath.Join(dir, name))
		if err == nil && strings.HasSuffix(name, ".fw") && s.host.Now().Sub(m.ModTime) < filterRound {
			return false
		}
	}
	return true
}

// filterRound is how long Proxmox may take to see a change of a firewall's rules.
const filterRound = 15 * time.Second
