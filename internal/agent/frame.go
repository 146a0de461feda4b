// Package agent is the engine on the other side of a pipe, and the daemon that keeps a container's objects up to date
// by itself.
//
// The hypervisor starts one `phoenix agent serve` a container and run, and talks to it over standard input and output
// in frames: a kind byte, a big-endian uint32 length, the payload. The hypervisor sends J, a JSON request, and B, a
// piece of a blob: a big-endian uint32 id, then content; no content is its end. The agent sends R, the answer to a
// request: its id, then JSON; C, a change that an apply is about to make: the apply's id, then a delta; W, the wish for
// a blob: an id, then the SHA-256 in hex; and H, the ids of the requests that are at work, twice a second.
//
// The agent is not trusted: docs/agent.md has what the Client takes from it, and for how long it waits.
package agent

import (
	"bufio"
	"bytes"
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

// The kinds of frames.
const (
	kindRequest = 'J'
	kindBlob    = 'B'
	kindAnswer  = 'R'
	kindChange  = 'C'
	kindWant    = 'W'
	kindBeat    = 'H'
)

const (
	requestLimit = 16 << 20 // bytes of what the hypervisor sends
	blobPiece    = 256 << 10
	idSize       = 4
	readSize     = 16 << 10
)

// The operations of a request.
const (
	opHello   = "hello"
	opObserve = "observe"
	opApply   = "apply"
	opCheck   = "check"
	opStop    = "stop" // nothing more is to be begun; not answered
	opNone    = "none" // the hypervisor has no such blob: the answer to a wish; not answered
)

// request is what the hypervisor asks.
type request struct {
	ID      uint32          `json:"id"`
	Op      string          `json:"op"`
	Object  *object.Object  `json:"object,omitempty"`
	Consent engine.Consent  `json:"consent,omitzero"`
	Check   json.RawMessage `json:"check,omitempty"`
	Blob    string          `json:"blob,omitempty"` // SHA-256 (hex)
}

// answer is what the agent says to a request.
type answer struct {
	Hello       *Hello                `json:"hello,omitempty"`
	Observation *provider.Observation `json:"observation,omitempty"`
	Outcome     *engine.Outcome       `json:"outcome,omitempty"`
	Result      json.RawMessage       `json:"result,omitempty"`
	Error       *failure              `json:"error,omitempty"`
}

// change is a change that is about to be made.
type change struct {
	Delta plan.Delta `json:"delta"`
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
	// stalled is called before a write and returns what is called after it.
	stalled func() (done func())
}

func newConn(r io.Reader, w io.Writer) *conn {
	return &conn{r: bufio.NewReaderSize(r, readSize), w: w, stalled: func() func() { return func() {} }}
}

// send writes a frame with a JSON payload, which stands behind id where the kind has one.
func (c *conn) send(kind byte, id uint32, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if kind == kindRequest {
		return c.write(kind, b)
	}
	return c.write(kind, append(binary.BigEndian.AppendUint32(nil, id), b...))
}

// sendBlob sends all of r in pieces, then the end.
func (c *conn) sendBlob(id uint32, r io.Reader) error {
	buf := make([]byte, idSize+blobPiece)
	binary.BigEndian.PutUint32(buf, id)
	for {
		n, err := io.ReadFull(r, buf[idSize:])
		if n > 0 {
			if err := c.write(kindBlob, buf[:idSize+n]); err != nil {
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return c.write(kindBlob, buf[:idSize])
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) write(kind byte, payload []byte) error {
	frame := make([]byte, 1, 5+len(payload))
	frame[0] = kind
	frame = append(binary.BigEndian.AppendUint32(frame, uint32(len(payload))), payload...)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.stalled()()
	_, err := c.w.Write(frame)
	return err
}

// head reads the kind and the length of the next frame.
func (c *conn) head() (kind byte, length int, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return 0, 0, err
	}
	return head[0], int(binary.BigEndian.Uint32(head[1:])), nil
}

// id reads the id that a payload begins with.
func (c *conn) id() (uint32, error) {
	b := make([]byte, idSize)
	_, err := io.ReadFull(c.r, b)
	return binary.BigEndian.Uint32(b), err
}

// payload reads n bytes. Memory is taken as they come, not as they are announced.
func (c *conn) payload(n int) ([]byte, error) {
	var b bytes.Buffer
	got, err := io.CopyN(&b, c.r, int64(n))
	if err == io.EOF && got < int64(n) {
		err = io.ErrUnexpectedEOF
	}
	return b.Bytes(), err
}

// strange is a frame that this protocol does not have.
func strange(kind byte, length int) error {
	return fmt.Errorf("frame of kind %q with %d bytes: the other side does not speak this protocol", kind, length)
}
