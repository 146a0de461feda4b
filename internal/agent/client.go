package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Client is the hypervisor's end of a session. Its methods may be called at once.
type Client struct {
	Hello Hello

	conn     *conn
	blobs    func(sha256 string) (io.ReadCloser, error)
	changing func(object.Object, plan.Delta)
	stop     func() error
	kill     func() error // may be nil
	group    sync.WaitGroup
	mu       sync.Mutex // guards what follows
	calls    map[uint32]chan message
	next     uint32
	lost     error
}

var _ engine.Target = (*Client)(nil)

// Dial starts argv (which enters the container and runs `phoenix agent serve` there) and waits for the agent's hello. blobs
// opens content by SHA-256 (hex); changing hears of changes before they are made.
func Dial(ctx context.Context, argv []string, blobs func(string) (io.ReadCloser, error), changing func(object.Object, plan.Delta)) (*Client, error) {
	p, err := (&host.Local{}).Start(argv)
	if err != nil {
		return nil, err
	}
	stop := func() error { return errors.Join(p.Stdin.Close(), p.Wait()) }
	c := NewClient(p.Stdout, p.Stdin, stop, blobs, changing)
	c.kill = p.Kill
	m, err := c.call(ctx, message{Op: opHello})
	if err == nil && m.Hello == nil {
		err = errors.New("it did not introduce itself")
	}
	if err != nil {
		_ = p.Kill() // it may have ended by itself
		return nil, unreachable(argv, err, c.Close())
	}
	c.Hello = *m.Hello
	return c, nil
}

// unreachable names the command, and what it said where it ended badly by itself.
func unreachable(argv []string, cause, ended error) error {
	var run *host.RunError
	if errors.As(ended, &run) && run.Code >= 0 {
		cause = errors.Join(run.Cause, cause)
		return fmt.Errorf("cannot reach the agent: %w", &host.RunError{Argv: argv, Output: run.Output, Code: run.Code, Cause: cause})
	}
	return fmt.Errorf("cannot reach the agent: %w", &host.RunError{Argv: argv, Code: -1, Cause: cause})
}

// NewClient talks to an agent over r and w; stop ends it and waits for it.
func NewClient(r io.Reader, w io.Writer, stop func() error, blobs func(string) (io.ReadCloser, error), changing func(object.Object, plan.Delta)) *Client {
	c := &Client{conn: newConn(r, w), blobs: blobs, changing: changing, stop: stop, calls: map[uint32]chan message{}}
	c.group.Go(c.read)
	return c
}

// Close ends the session; what is under way in the container is cancelled there.
func (c *Client) Close() error {
	err := c.stop()
	c.group.Wait()
	return err
}

// Kill ends an agent that does not answer; Close then need not wait for it.
func (c *Client) Kill() {
	if c.kill != nil {
		_ = c.kill() // it may have ended by itself
	}
}

// Observe implements engine.Target.
func (c *Client) Observe(ctx context.Context, o object.Object) (provider.Observation, error) {
	m, err := c.call(ctx, message{Op: opObserve, Object: &o})
	if m.Observation == nil {
		m.Observation = &provider.Observation{}
	}
	return *m.Observation, err
}

// Apply implements engine.Target.
func (c *Client) Apply(ctx context.Context, o object.Object, consent engine.Consent) (engine.Outcome, error) {
	m, err := c.call(ctx, message{Op: opApply, Object: &o, Consent: consent})
	if m.Outcome == nil {
		m.Outcome = &engine.Outcome{}
	}
	return *m.Outcome, err
}

// Check runs a health check inside.
func (c *Client) Check(ctx context.Context, check json.RawMessage) (json.RawMessage, error) {
	m, err := c.call(ctx, message{Op: opCheck, Check: check})
	return m.Result, err
}

func (c *Client) call(ctx context.Context, m message) (message, error) {
	answer := make(chan message, 1)
	c.mu.Lock()
	if c.lost != nil {
		c.mu.Unlock()
		return message{}, c.lost
	}
	c.next++
	m.ID = c.next
	c.calls[m.ID] = answer
	c.mu.Unlock()
	if err := c.conn.send(m); err != nil {
		return message{}, errors.Join(engine.ErrDisconnected, err)
	}
	if m.Op == opApply && c.stopped(ctx, answer) {
		ctx = engine.Lasting(ctx)
	}
	select {
	case a, ok := <-answer:
		if !ok {
			return message{}, c.lost
		}
		if a.Error != nil {
			return a, a.Error.unpack()
		}
		return a, nil
	case <-ctx.Done():
		return message{}, engine.Ended(ctx)
	}
}

// stopped waits until there is an answer, which it puts back, or ctx ends. Then the agent is told to begin nothing more: a change
// that is under way is waited for.
func (c *Client) stopped(ctx context.Context, answer chan message) bool {
	select {
	case a, ok := <-answer:
		if ok {
			answer <- a
		}
		return false
	case <-ctx.Done():
		return engine.Lasting(ctx).Err() == nil && c.conn.send(message{Op: opStop}) == nil
	}
}

func (c *Client) read() {
	for {
		m, _, _, err := c.conn.receive()
		if err == nil && m == nil {
			err = errors.New("an agent sends no blobs")
		}
		if err != nil {
			c.lose(err)
			return
		}
		switch m.Op {
		case opWant:
			c.group.Go(func() { c.serve(m.ID, m.Blob) })
		case opChange:
			if c.changing != nil && m.Object != nil && m.Delta != nil {
				c.changing(*m.Object, *m.Delta)
			}
		default:
			c.mu.Lock()
			answer := c.calls[m.ID]
			delete(c.calls, m.ID)
			c.mu.Unlock()
			if answer != nil {
				answer <- *m
			}
		}
	}
}

// serve sends one blob. Without it the agent is told so; a blob that breaks off is caught by the agent's checksum.
func (c *Client) serve(id uint32, sha256 string) {
	r, err := io.ReadCloser(nil), error(fs.ErrNotExist)
	if c.blobs != nil {
		r, err = c.blobs(sha256)
	}
	if err == nil {
		defer r.Close()
		err = c.conn.sendBlob(id, r)
	}
	if err != nil {
		// Where the pipe is broken too, read sees it.
		_ = c.conn.send(message{ID: id, Op: opWant, Blob: sha256})
	}
}

func (c *Client) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = errors.Join(engine.ErrDisconnected, err)
	for id, answer := range c.calls {
		close(answer)
		delete(c.calls, id)
	}
}
