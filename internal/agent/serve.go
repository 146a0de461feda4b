package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Locks between a session and the daemon of one container.
const (
	LockPath    = "/run/phoenix/lock"    // held around each change
	SessionPath = "/run/phoenix/session" // held shared by a session; the daemon begins no round meanwhile
)

// Server answers one hypervisor.
type Server struct {
	Drivers engine.Drivers
	Hello   Hello
	// Check runs one health check; the JSON is the check's and the result's.
	Check func(ctx context.Context, h host.Host, check json.RawMessage) (json.RawMessage, error)
	// Lock is held around each change.
	Lock func(context.Context) (func(), error)
	// Session, where there is one, is held as long as the session lasts.
	Session func(context.Context) (func(), error)

	conn   *conn
	stop   func() // nothing more is begun
	target *engine.LocalTarget
	mu     sync.Mutex // guards blobs and next
	blobs  map[uint32]*io.PipeWriter
	next   uint32
	group  sync.WaitGroup
}

// Serve answers requests, many at once, until r ends; then what is under way is cancelled and awaited.
func (s *Server) Serve(ctx context.Context, r io.Reader, w io.Writer) error {
	lasting, cancel := context.WithCancel(engine.Lasting(ctx))
	defer cancel()
	ctx, s.stop = engine.Interruptible(lasting, ctx)
	s.conn, s.blobs = newConn(r, w), map[uint32]*io.PipeWriter{}
	if s.Session != nil {
		release, err := s.Session(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	s.target = engine.NewLocal(s.Drivers, &host.Local{Blob: s.blob}, s.Lock, s.changing, nil)
	err := s.read(ctx)
	cancel()
	s.hangUp()
	s.group.Wait()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *Server) read(ctx context.Context) error {
	for {
		m, id, piece, err := s.conn.receive()
		if err != nil {
			return err
		}
		switch {
		case m == nil:
			s.piece(id, piece)
		case m.Op == opStop:
			s.stop()
		case m.Op == opWant: // the hypervisor's answer: it has no such blob
			s.close(m.ID, &fs.PathError{Op: "fetch", Path: m.Blob, Err: fs.ErrNotExist})
		default:
			s.group.Go(func() { s.answer(ctx, *m) })
		}
	}
}

func (s *Server) answer(ctx context.Context, m message) {
	reply := message{ID: m.ID}
	if err := s.do(ctx, m, &reply); err != nil {
		reply.Error = pack(err)
	}
	if err := s.conn.send(reply); err != nil {
		return // the hypervisor is gone; read sees it too and ends the session
	}
}

func (s *Server) do(ctx context.Context, m message, reply *message) error {
	switch {
	case m.Op == opHello:
		reply.Hello = &s.Hello
		return nil
	case m.Op == opObserve && m.Object != nil:
		obs, err := s.target.Observe(ctx, *m.Object)
		reply.Observation = &obs
		return err
	case m.Op == opApply && m.Object != nil:
		out, err := s.target.Apply(ctx, *m.Object, m.Consent)
		reply.Outcome = &out
		return err
	case m.Op == opCheck && s.Check != nil:
		res, err := s.Check(ctx, s.target.Host(), m.Check)
		reply.Result = res
		return err
	}
	return provider.Permanent(errors.New("the agent does not know the request " + m.Op))
}

func (s *Server) changing(o object.Object, d plan.Delta) {
	// Progress only: a lost line is seen by read.
	_ = s.conn.send(message{Op: opChange, Object: &object.Object{Address: o.Address, Container: o.Container, Host: o.Host}, Delta: &d})
}

// blob asks the hypervisor for content; what is read comes over the pipe as it is sent.
func (s *Server) blob(_ context.Context, sha256 string) (io.ReadCloser, error) {
	r, w := io.Pipe()
	s.mu.Lock()
	s.next++
	id := s.next
	s.blobs[id] = w
	s.mu.Unlock()
	if err := s.conn.send(message{ID: id, Op: opWant, Blob: sha256}); err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Server) piece(id uint32, piece []byte) {
	s.mu.Lock()
	w := s.blobs[id]
	s.mu.Unlock()
	if w == nil {
		return
	}
	if len(piece) == 0 {
		s.close(id, io.EOF)
		return
	}
	if _, err := w.Write(piece); err != nil {
		s.close(id, err) // the reader gave up: what still comes is dropped
	}
}

func (s *Server) close(id uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.blobs[id]; w != nil {
		w.CloseWithError(err)
		delete(s.blobs, id)
	}
}

func (s *Server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.blobs {
		w.CloseWithError(io.ErrUnexpectedEOF)
		delete(s.blobs, id)
	}
}

func pack(err error) *failure {
	return &failure{Message: err.Error(), Permanent: provider.IsPermanent(err), Hint: engine.Advice(err)}
}

func (f *failure) unpack() error {
	if f.Permanent {
		return provider.PermanentHint(errors.New(f.Message), f.Hint)
	}
	return provider.WithHint(errors.New(f.Message), f.Hint)
}
