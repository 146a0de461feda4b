package agent

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// doorkeeper counts what an agent may do so often only.
type doorkeeper struct {
	greeted bool      // it has introduced itself
	stored  int       // bytes of observations
	refused int       // wishes
	beats   int       // that it may still give
	since   time.Time // beats were counted
}

// errRefused is a frame that no agent of this phoenix sends.
var errRefused = errors.New("it does not keep to the protocol")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errRefused, fmt.Sprintf(format, args...))
}

func (c *Client) read() {
	for {
		err := c.frame()
		if err == nil {
			continue
		}
		if errors.Is(err, errRefused) && c.greeted() {
			err = c.refuse(err.Error())
		} else { // not the agent's own words before it has introduced itself: lxc-attach's, or its shell's
			err = c.disconnected(err)
		}
		c.fail(err)
		return
	}
}

// frame takes one frame of the agent.
func (c *Client) frame() error {
	kind, n, err := c.conn.head()
	if err != nil {
		return err
	}
	switch {
	case kind == kindAnswer && n >= idSize:
		return c.takeAnswer(n - idSize)
	case kind == kindChange && n >= idSize && n <= changeBytes:
		return c.takeChange(n - idSize)
	case kind == kindWant && n == idSize+hex.EncodedLen(32):
		return c.takeWish(n - idSize)
	case kind == kindBeat && n%idSize == 0 && n <= beatBytes:
		return c.takeBeat(n / idSize)
	}
	return fmt.Errorf("%w: %w", errRefused, strange(kind, n))
}

// takeAnswer reads the answer to a request in flight, as large as that one's may be.
func (c *Client) takeAnswer(n int) error {
	id, err := c.conn.id()
	if err != nil {
		return err
	}
	k := c.inFlight(id)
	switch {
	case k == nil:
		return refused("an answer to nothing")
	case n > k.limit.Bytes:
		return refused("%d bytes in answer to %s, which may have %d", n, k.name(), k.limit.Bytes)
	}
	raw, err := c.conn.payload(n)
	if err != nil {
		return err
	}
	a, err := k.read(raw)
	if err != nil {
		return refused("its answer to %s cannot be read: %s", k.name(), clean.Line(err.Error(), lineBytes))
	}
	return c.deliver(k, a, n)
}

// read cleans an answer.
func (k *call) read(raw []byte) (a answer, err error) {
	if raw, err = clean.JSON(raw, shape(k.limit.String), severalLines); err != nil {
		return a, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, err
	}
	if a.Error != nil {
		a.Error.Message = errorText(a.Error.Message)
	}
	if a.Hello != nil && k.Op != opHello || a.Observation != nil && k.Op != opObserve || a.Outcome != nil &&
		k.Op != opApply {
		return a, errors.New("it answers something else")
	}
	if a.Observation != nil {
		err = observation(a.Observation)
	}
	if a.Outcome != nil {
		a.Outcome.Mutations = max(0, min(a.Outcome.Mutations, 1_000_000))
		err = errors.Join(delta(&a.Outcome.Delta), observation(&a.Outcome.After))
	}
	return a, err
}

// observation leaves what may be believed of the inside: what was seen. When to look again, and on what of this host it
// rests, is not for the inside to say.
func observation(o *provider.Observation) error {
	o.Next, o.Watch = time.Time{}, provider.Watch{}
	return delta(&o.Delta)
}

func delta(d *plan.Delta) error {
	switch d.Action {
	case plan.None, plan.Create, plan.Update, plan.Replace, plan.Delete:
	default:
		return errors.New("an action that there is not")
	}
	d.Reason = clean.Line(d.Reason, lineBytes)
	d.Fields = d.Fields[:min(len(d.Fields), most)]
	for i := range d.Fields {
		d.Fields[i].Path = clean.Line(d.Fields[i].Path, lineBytes)
	}
	return nil
}

// errorText has an end.
func errorText(s string) string {
	s = clean.Text(s, errorBytes)
	if lines := strings.SplitN(s, "\n", errorLines+1); len(lines) > errorLines {
		s = strings.Join(lines[:errorLines], "\n") + "\n…"
	}
	return s
}

func (c *Client) greeted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.door.greeted
}

func (c *Client) inFlight(id uint32) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[id]
}

func (c *Client) deliver(k *call, a answer, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.Op != opCheck {
		c.door.stored += n
	}
	if c.door.stored > storedBytes {
		return refused("it has said more than %d bytes", storedBytes)
	}
	if c.calls[k.ID] == k {
		delete(c.calls, k.ID)
		k.answer <- a
	}
	c.door.greeted = c.door.greeted || a.Hello != nil
	c.rest()
	return nil
}

// takeChange passes on what an apply in flight is about to do. What it is about is in the request: the agent gives a
// delta only.
func (c *Client) takeChange(n int) error {
	id, err := c.conn.id()
	if err != nil {
		return err
	}
	raw, err := c.conn.payload(n)
	if err != nil {
		return err
	}
	k := c.inFlight(id)
	if k == nil || k.Op != opApply {
		return refused("a change of what is not applied")
	}
	if k.deltas++; k.deltas > changesEach {
		return refused("more than %d changes of %s", changesEach, k.Object.Address)
	}
	var said change
	if raw, err = clean.JSON(raw, shape(stringBytes), severalLines); err == nil {
		err = errors.Join(json.Unmarshal(raw, &said), delta(&said.Delta))
	}
	if err != nil {
		return refused("its change of %s cannot be read: %s", k.Object.Address, clean.Line(err.Error(), lineBytes))
	}
	if c.session.Changing != nil {
		c.session.Changing(*k.Object, said.Delta)
	}
	return nil
}

// wishes are the blobs that an apply's object needs.
func wishes(r request) map[string]int {
	if r.Op != opApply {
		return nil
	}
	var s struct {
		SHA256 string `json:"sha256"`
	}
	kind := r.Object.Address.Kind()
	if kind != spec.KindFile && kind != spec.KindScript || json.Unmarshal(r.Object.Spec, &s) != nil || s.SHA256 == "" {
		return nil
	}
	return map[string]int{s.SHA256: blobsEach}
}

// takeWish sends a blob if an object that is being applied needs it.
func (c *Client) takeWish(n int) error {
	id, err := c.conn.id()
	if err != nil {
		return err
	}
	raw, err := c.conn.payload(n)
	if err != nil {
		return err
	}
	sum := string(raw)
	granted, err := c.grant(sum)
	if err == nil {
		c.group.Go(func() { c.serve(id, sum, granted) })
	}
	return err
}

func (c *Client) grant(sum string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.calls {
		if k.blobs[sum] > 0 {
			k.blobs[sum]--
			return true, nil
		}
	}
	if c.door.refused++; c.door.refused > refusedMost {
		return false, refused("it wishes for content that no object of its container needs")
	}
	return false, nil
}

// serve sends one blob. Without it the agent is told so; a blob that breaks off is caught by the agent's checksum.
func (c *Client) serve(id uint32, sum string, granted bool) {
	r, err := io.ReadCloser(nil), error(fs.ErrNotExist)
	if c.session.Blobs != nil && granted {
		r, err = c.session.Blobs(sum)
	}
	if err == nil {
		defer r.Close()
		err = c.conn.sendBlob(id, r)
	}
	if err != nil {
		// Where the pipe is broken too, read sees it.
		_ = c.conn.send(kindRequest, 0, request{ID: id, Op: opNone, Blob: sum})
	}
}

// takeBeat notes which requests are at work.
func (c *Client) takeBeat(n int) error {
	if !c.mayBeat(time.Now()) {
		return refused("signs of life without end")
	}
	for range n {
		id, err := c.conn.id()
		if err != nil {
			return err
		}
		if k := c.inFlight(id); k != nil {
			select {
			case k.alive <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// mayBeat is whether it gives signs of life no faster than beatsEach, but for a few at once.
func (c *Client) mayBeat(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.door.since.IsZero() {
		c.door.beats, c.door.since = beatsAtOnce, now
	}
	if more := int(now.Sub(c.door.since) / beatsEach); more > 0 {
		c.door.beats, c.door.since = min(beatsAtOnce, c.door.beats+more), now
	}
	c.door.beats--
	return c.door.beats >= 0
}

// said is an error of the agent's, in its own words and marked as such. What a person should do is phoenix's to say.
func (c *Client) said(r request, f *failure) error {
	if f == nil {
		return nil
	}
	err := fmt.Errorf("container %s says: %s", c.session.Container, f.Message)
	hint := ""
	if r.Object != nil {
		hint = hintFor(*r.Object, f.Hint)
	}
	if f.Permanent {
		return provider.PermanentHint(err, hint)
	}
	return provider.WithHint(err, hint)
}
