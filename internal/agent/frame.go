// Package agent is the engine on the other side of a pipe, and the daemon that keeps a container's objects true by itself.
//
// The hypervisor starts one `phoenix agent serve` a container and run, and talks to it over standard input and output in
// frames: a kind byte, a big-endian uint32 length, the payload. Kind J is a JSON message, kind B a piece of a blob: a
// big-endian uint32 request id, then content; no content is its end.
package agent

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	kindMessage = 'J'
	kindBlob    = 'B'
	frameLimit  = 16 << 20 // bytes; a longer frame is a broken peer
	blobPiece   = 1 << 20  // bytes
)

// The operations of a request.
const (
	opHello   = "hello"
	opObserve = "observe"
	opApply   = "apply"
	opCheck   = "check"
	opStop    = "stop"   // nothing more is to be begun; not answered
	opWant    = "want"   // from the agent: send the blob
	opChange  = "change" // from the agent: an object is about to be changed
)

// message is a request or an answer; an answer has its request's id.
type message struct {
	ID          uint32                `json:"id"`
	Op          string                `json:"op,omitempty"`
	Object      *object.Object        `json:"object,omitempty"`
	Consent     engine.Consent        `json:"consent,omitzero"`
	Check       json.RawMessage       `json:"check,omitempty"`
	Blob        string                `json:"blob,omitempty"` // SHA-256 (hex)
	Hello       *Hello                `json:"hello,omitempty"`
	Observation *provider.Observation `json:"observation,omitempty"`
	Outcome     *engine.Outcome       `json:"outcome,omitempty"`
	Result      json.RawMessage       `json:"result,omitempty"`
	Delta       *plan.Delta           `json:"delta,omitempty"`
	Error       *failure              `json:"error,omitempty"`
}

// Hello is how an agent introduces itself.
type Hello struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of its binary
}

// failure is an error on its way over the pipe.
type failure struct {
	Message   string `json:"message"`
	Permanent bool   `json:"permanent,omitempty"`
	Hint      string `json:"hint,omitempty"`
}

// conn reads frames from one goroutine and writes them from any.
type conn struct {
	r  *bufio.Reader
	mu sync.Mutex // guards w
	w  io.Writer
}

func newConn(r io.Reader, w io.Writer) *conn { return &conn{r: bufio.NewReaderSize(r, 64<<10), w: w} }

func (c *conn) send(m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.write(kindMessage, b)
}

// sendBlob sends all of r in pieces, then the end.
func (c *conn) sendBlob(id uint32, r io.Reader) error {
	buf := make([]byte, 4+blobPiece)
	binary.BigEndian.PutUint32(buf, id)
	for {
		n, err := io.ReadFull(r, buf[4:])
		if n > 0 {
			if err := c.write(kindBlob, buf[:4+n]); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return c.write(kindBlob, buf[:4])
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) write(kind byte, payload []byte) error {
	head := make([]byte, 5)
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.w.Write(head); err != nil {
		return err
	}
	_, err := c.w.Write(payload)
	return err
}

// receive gives the next message, or a piece of a blob with its request's id.
func (c *conn) receive() (*message, uint32, []byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return nil, 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > frameLimit {
		return nil, 0, nil, fmt.Errorf("frame of %d bytes: the other side does not speak this protocol", n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return nil, 0, nil, err
	}
	switch {
	case head[0] == kindMessage:
		m := &message{}
		return m, 0, nil, json.Unmarshal(payload, m)
	case head[0] == kindBlob && n >= 4:
		return nil, binary.BigEndian.Uint32(payload), payload[4:], nil
	}
	return nil, 0, nil, fmt.Errorf("frame of kind %q: the other side does not speak this protocol", head[0])
}
