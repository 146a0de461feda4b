package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Session is what a Client needs to know of its container.
type Session struct {
	Container string
	// Blobs opens content by SHA-256 (hex); nil: there is none. Only what an object needs that is being applied is
	// asked of it.
	Blobs func(sha256 string) (io.ReadCloser, error)
	// Changing, where there is one, is called before a change is made, by one goroutine at a time.
	Changing func(object.Object, plan.Delta)
	Limits   Limits
}

// Client is the hypervisor's end of a session, and the one door for what an agent says. Its methods may be called at
// once. Whatever the agent does, they return within the Session's limits; an agent that exceeds one is killed.
type Client struct {
	Hello Hello

	session Session
	conn    *conn
	stop    func() error // ends the agent's input and waits for its end
	kill    func()       // ends the agent; stop returns then
	group   sync.WaitGroup
	once    sync.Once
	ended   error      // what Close found
	mu      sync.Mutex // guards what follows
	calls   map[uint32]*call
	next    uint32
	lost    error
	door    doorkeeper
	idle    func() // called once nothing is in flight; nil: nobody waits for that
}

var _ engine.Target = (*Client)(nil)

// call is a request in flight.
type call struct {
	request
	limit  Answer
	answer chan answer
	alive  chan struct{}  // has room for one sign of life
	blobs  map[string]int // how often the agent may still wish for each
	deltas int            // how many changes were announced
	left   bool           // nobody waits for the answer any more
}

// Dial starts argv (which enters the container and runs `phoenix agent serve` there) and waits for the agent's hello.
func Dial(ctx context.Context, argv []string, s Session) (*Client, error) {
	p, err := (&host.Local{}).Start(argv)
	if err != nil {
		return nil, err
	}
	stop := func() error { return errors.Join(p.Stdin.Close(), p.Wait()) }
	kill := func() {
		_ = p.Kill() // it may have ended by itself
		p.Stdin.Close()
		p.Stdout.Close() // what it left behind in the container may hold the other end
	}
	c := NewClient(p.Stdout, p.Stdin, stop, kill, s)
	if err := c.hello(ctx); err != nil {
		c.Kill()
		return nil, unreachable(argv, err, c.Close())
	}
	return c, nil
}

func (c *Client) hello(ctx context.Context) error {
	a, err := c.call(ctx, request{Op: opHello},
		Answer{Bytes: helloBytes, String: lineBytes, Within: c.session.Limits.hello()})
	if err == nil && a.Hello == nil {
		err = c.refuse("it did not introduce itself")
	}
	if err == nil {
		c.Hello = *a.Hello
	}
	return err
}

// unreachable names the command, and what it said where it ended badly by itself.
func unreachable(argv []string, cause, ended error) error {
	var run *host.RunError
	if errors.As(ended, &run) && run.Code >= 0 {
		cause = errors.Join(run.Cause, cause)
		return fmt.Errorf("cannot reach the agent: %w",
			&host.RunError{Argv: argv, Output: run.Output, Code: run.Code, Cause: cause})
	}
	return fmt.Errorf("cannot reach the agent: %w", &host.RunError{Argv: argv, Code: -1, Cause: cause})
}

// NewClient talks to an agent over r and w. stop ends the agent's input and waits for its end; kill (may be nil) ends
// it at once, so that reads, writes and stop return.
func NewClient(r io.Reader, w io.Writer, stop func() error, kill func(), s Session) *Client {
	c := &Client{session: s, conn: newConn(r, w), stop: stop, kill: kill, calls: map[uint32]*call{}}
	c.conn.stalled = func() func() {
		t := time.AfterFunc(s.Limits.write(), func() {
			c.fail(c.refuse(fmt.Sprintf("it has read nothing for %s", s.Limits.write())))
		})
		return func() { t.Stop() }
	}
	c.group.Go(c.read)
	return c
}

// Close ends the session; what is under way in the container is cancelled there. An agent that does not end in time is
// killed.
func (c *Client) Close() error {
	c.once.Do(func() { c.ended = c.close() })
	return c.ended
}

func (c *Client) close() error {
	ended := make(chan error, 1)
	go func() {
		err := c.stop()
		c.group.Wait()
		ended <- err
	}()
	limit := c.session.Limits.close()
	for _, last := range []bool{false, true} {
		t := time.NewTimer(limit)
		select {
		case err := <-ended:
			t.Stop()
			return err
		case <-t.C:
		}
		if !last {
			c.Kill()
			limit += killMargin
		}
	}
	return fmt.Errorf("the session with container %s cannot be ended", c.session.Container)
}

// killMargin is how long the end of a killed process may take.
const killMargin = 6 * time.Second

// CloseIdle is Close once nothing is in flight any more; it does not wait for that.
func (c *Client) CloseIdle(closed func(error)) {
	end := func() { go func() { closed(c.Close()) }() }
	c.mu.Lock()
	busy := c.busy()
	if busy {
		c.idle = end
	}
	c.mu.Unlock()
	if !busy {
		end()
	}
}

// Kill ends an agent that does not answer; Close then need not wait for it.
func (c *Client) Kill() {
	c.fail(c.refuse("it has not ended when it was told to"))
}

// Observe implements engine.Target.
func (c *Client) Observe(ctx context.Context, o object.Object) (provider.Observation, error) {
	a, err := c.call(ctx, request{Op: opObserve, Object: &o},
		Answer{Bytes: observeBytes, String: stringBytes, Within: c.session.Limits.observe()})
	if err == nil && a.Observation == nil {
		err = c.refuse("it has answered something else than what it was asked")
	}
	if a.Observation == nil {
		a.Observation = &provider.Observation{}
	}
	return *a.Observation, err
}

// Apply implements engine.Target.
func (c *Client) Apply(ctx context.Context, o object.Object, consent engine.Consent) (engine.Outcome, error) {
	a, err := c.call(ctx, request{Op: opApply, Object: &o, Consent: consent},
		Answer{Bytes: observeBytes, String: stringBytes, Within: c.session.Limits.apply(o.Address.Kind())})
	switch {
	case err == nil && a.Outcome == nil:
		err = c.refuse("it has answered something else than what it was asked")
	case err == nil && !a.Outcome.After.Delta.Empty():
		err = fmt.Errorf("container %s says that %s was changed, and that it still differs", c.session.Container,
			o.Address)
	}
	if a.Outcome == nil {
		a.Outcome = &engine.Outcome{}
	}
	return *a.Outcome, err
}

// Check asks something of the agent that is no object: a health check, a look of the audit.
func (c *Client) Check(ctx context.Context, check json.RawMessage, limit Answer) (json.RawMessage, error) {
	limit.Within = cmp.Or(c.session.Limits.Check, limit.Within)
	a, err := c.call(ctx, request{Op: opCheck, Check: check}, limit)
	return a.Result, err
}

func (c *Client) call(ctx context.Context, r request, limit Answer) (answer, error) {
	k := &call{request: r, limit: limit, answer: make(chan answer, 1), alive: make(chan struct{}, 1), blobs: wishes(r)}
	if err := c.begin(k); err != nil {
		return answer{}, err
	}
	began := time.Now()
	if err := c.conn.send(kindRequest, 0, k.request); err != nil {
		c.fail(c.disconnected(err))
		return answer{}, c.why()
	}
	silence := min(c.session.Limits.silence(), limit.Within)
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	done := ctx.Done()
	for {
		select {
		case a, ok := <-k.answer:
			if !ok {
				return answer{}, c.why()
			}
			return a, c.said(r, a.Error)
		case <-k.alive:
			quiet.Reset(min(silence, limit.Within-time.Since(began)))
		case <-quiet.C:
			c.fail(c.refuse(fmt.Sprintf("no answer to %s within %s", r.name(),
				time.Since(began).Round(100*time.Millisecond))))
			return answer{}, c.why()
		case <-done:
			if !c.finish(ctx, r) {
				c.leave(k)
				return answer{}, engine.Ended(ctx)
			}
			ctx = engine.Lasting(ctx)
			done = ctx.Done()
		}
	}
}

// finish tells the agent to begin nothing more, where a change is to come to its end though ctx has ended.
func (c *Client) finish(ctx context.Context, r request) bool {
	return r.Op == opApply && engine.Lasting(ctx).Err() == nil &&
		c.conn.send(kindRequest, 0, request{Op: opStop}) == nil
}

// leave waits for an answer no more; one that comes all the same is dropped.
func (c *Client) leave(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.left = true
	c.rest()
}

// rest is called, with mu held, when a call has ended: it ends a session that was only waited for.
func (c *Client) rest() {
	if c.idle != nil && !c.busy() {
		c.idle()
		c.idle = nil
	}
}

// busy is whether somebody waits for an answer; mu is held.
func (c *Client) busy() bool {
	for _, k := range c.calls {
		if !k.left {
			return true
		}
	}
	return false
}

// name is what is asked, for people.
func (r request) name() string {
	if r.Object == nil {
		return r.Op
	}
	return r.Op + " " + string(r.Object.Address)
}

func (c *Client) begin(k *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return c.lost
	}
	if len(c.calls) >= inFlightMost {
		return fmt.Errorf("container %s: %d requests are in flight: %w", c.session.Container, len(c.calls),
			engine.ErrUnresponsive)
	}
	c.next++
	k.ID = c.next
	c.calls[k.ID] = k
	return nil
}

// Lost is why the session is over; nil: it is not.
func (c *Client) Lost() error { return c.why() }

func (c *Client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// refuse is an agent that exceeds a limit, or says what none may say.
func (c *Client) refuse(what string) error {
	return provider.WithHint(fmt.Errorf("container %s: its agent was given up: %s: %w", c.session.Container, what,
		engine.ErrUnresponsive),
		"look at what runs in the container and keeps phoenix from answering, or: phoenix restart "+c.session.Container)
}

// disconnected is a session that ended, as it does with its container.
func (c *Client) disconnected(err error) error {
	return fmt.Errorf("container %s: %w: %w", c.session.Container, engine.ErrDisconnected, err)
}

// fail ends the session: every call fails with err, and so does every later one.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.lost == nil {
		c.lost = err
	}
	for id, k := range c.calls {
		close(k.answer)
		delete(c.calls, id)
	}
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	if c.kill != nil {
		c.kill()
	}
	if idle != nil {
		idle()
	}
}
