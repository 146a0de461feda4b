package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

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
	// Key gives the lock of what takes long; see engine.LocalTarget.
	Key func(ctx context.Context, key string) (func(), error)
	// Session, where there is one, is held as long as the session lasts.
	Session func(context.Context) (func(), error)

	conn   *conn
	stop   func() // nothing more is begun
	host   *host.Local
	mu     sync.Mutex // guards what follows
	blobs  map[uint32]*io.PipeWriter
	next   uint32
	atWork map[uint32]bool // requests
	group  sync.WaitGroup
}

// Serve answers requests, many at once, until r ends; then what is under way is cancelled and awaited.
func (s *Server) Serve(ctx context.Context, r io.Reader, w io.Writer) error {
	lasting, cancel := context.WithCancel(engine.Lasting(ctx))
	defer cancel()
	ctx, s.stop = engine.Interruptible(lasting, ctx)
	s.conn, s.blobs, s.atWork = newConn(r, w), map[uint32]*io.PipeWriter{}, map[uint32]bool{}
	if s.Session != nil {
		release, err := s.Session(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	s.host = &host.Local{Blob: s.blob}
	s.group.Go(func() { s.beats(lasting) })
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
		kind, n, err := s.conn.head()
		if err != nil {
			return err
		}
		switch {
		case kind == kindRequest && n <= requestLimit:
			err = s.request(ctx, n)
		case kind == kindBlob && n >= idSize && n <= idSize+blobPiece:
			err = s.takePiece(n - idSize)
		default:
			err = strange(kind, n)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) request(ctx context.Context, n int) error {
	raw, err := s.conn.payload(n)
	if err != nil {
		return err
	}
	var r request
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	switch r.Op {
	case opStop:
		s.stop()
	case opNone:
		s.close(r.ID, &fs.PathError{Op: "fetch", Path: r.Blob, Err: fs.ErrNotExist})
	default:
		s.group.Go(func() { s.answer(ctx, r) })
	}
	return nil
}

func (s *Server) answer(ctx context.Context, r request) {
	s.work(r.ID, true)
	var a answer
	if err := s.do(ctx, r, &a); err != nil {
		a.Error = pack(err)
	}
	s.work(r.ID, false)
	if err := s.conn.send(kindAnswer, r.ID, a); err != nil {
		return // the hypervisor is gone; read sees it too and ends the session
	}
}

func (s *Server) work(id uint32, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.atWork, id); on {
		s.atWork[id] = true
	}
}

// beats tells the hypervisor every now and then which requests are at work, so that it goes on waiting.
func (s *Server) beats(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if ids := s.working(); len(ids) > 0 && s.conn.write(kindBeat, ids) != nil {
			return // the hypervisor is gone
		}
	}
}

func (s *Server) working() (ids []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.atWork {
		if len(ids) < beatBytes {
			ids = binary.BigEndian.AppendUint32(ids, id)
		}
	}
	return ids
}

func (s *Server) do(ctx context.Context, r request, a *answer) error {
	target := engine.NewLocal(s.Drivers, s.host, s.Lock, func(_ object.Object, d plan.Delta) { s.changing(r.ID, d) },
		nil)
	target.Key, target.Most = s.Key, HoldMost
	switch {
	case r.Op == opHello:
		a.Hello = &s.Hello
		return nil
	case r.Op == opObserve && r.Object != nil:
		obs, err := target.Observe(ctx, *r.Object)
		a.Observation = &obs
		return err
	case r.Op == opApply && r.Object != nil:
		out, err := target.Apply(ctx, *r.Object, r.Consent)
		a.Outcome = &out
		return err
	case r.Op == opCheck && s.Check != nil:
		res, err := s.Check(ctx, s.host, r.Check)
		a.Result = res
		return err
	}
	return provider.Permanent(errors.New("the agent does not know the request " + r.Op))
}

func (s *Server) changing(id uint32, d plan.Delta) {
	d.Fields = slices.Clone(d.Fields)
	for i := range d.Fields { // shown are their names
		d.Fields[i].Have, d.Fields[i].Want = "", ""
	}
	// Progress only: a lost line is seen by read.
	_ = s.conn.send(kindChange, id, change{d})
}

// blob asks the hypervisor for content; what is read comes over the pipe as it is sent.
func (s *Server) blob(_ context.Context, sha256 string) (io.ReadCloser, error) {
	r, w := io.Pipe()
	s.mu.Lock()
	s.next++
	id := s.next
	s.blobs[id] = w
	s.mu.Unlock()
	if err := s.conn.write(kindWant, append(binary.BigEndian.AppendUint32(nil, id), sha256...)); err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Server) takePiece(n int) error {
	id, err := s.conn.id()
	if err != nil {
		return err
	}
	piece, err := s.conn.payload(n)
	if err == nil {
		s.piece(id, piece)
	}
	return err
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
	return &failure{Message: errorText(err.Error()), Permanent: provider.IsPermanent(err), Hint: engine.Advice(err)}
}
