package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// quick are the limits of these tests.
var quick = Limits{
	Hello: 300 * time.Millisecond, Silence: 300 * time.Millisecond, Observe: time.Second, Apply: time.Second,
	Write: 300 * time.Millisecond,
	Close: 300 * time.Millisecond,
}

// enough is how long anything may take with these limits on a busy machine.
const enough = 8 * time.Second

func frame(kind byte, id uint32, payload string) []byte {
	b := []byte{kind, 0, 0, 0, 0}
	if kind != kindBeat {
		b = binary.BigEndian.AppendUint32(b, id)
	}
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	return b
}

func ids(n ...uint32) string {
	var b []byte
	for _, i := range n {
		b = binary.BigEndian.AppendUint32(b, i)
	}
	return string(b)
}

// wicked is the agent of a hostile container: it is called with each request, and writes what it likes.
type wicked func(w io.Writer, r request)

const greeting = `{"hello":{"version":"v1"}}`

// face makes a session with it.
func face(t *testing.T, bad wicked, s Session) (*Client, error) {
	t.Helper()
	in, out := io.Pipe()
	back, said := io.Pipe()
	go func() {
		c := newConn(in, io.Discard)
		for {
			_, n, err := c.head()
			if err != nil {
				return
			}
			raw, err := c.payload(n)
			var r request
			if err != nil || json.Unmarshal(raw, &r) != nil {
				return
			}
			go bad(said, r)
		}
	}()
	ended := make(chan struct{})
	kill := func() { out.Close(); back.Close(); in.Close(); said.Close(); closeOnce(ended) }
	s.Container, s.Limits = "201", quick
	c := NewClient(back, out, func() error { <-ended; return nil }, kill, s)
	t.Cleanup(func() { c.Close() })
	return c, c.hello(t.Context())
}

func closeOnce(c chan struct{}) {
	defer func() { _ = recover() }()
	close(c)
}

// polite greets, and then does something else.
func polite(then wicked) wicked {
	return func(w io.Writer, r request) {
		if r.Op == opHello {
			w.Write(frame(kindAnswer, r.ID, greeting))
			return
		}
		then(w, r)
	}
}

func forever(w io.Writer, b []byte) {
	for {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

func slowly(w io.Writer, b []byte) {
	for _, c := range b {
		if _, err := w.Write([]byte{c}); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func aliveForever(w io.Writer, r request) {
	for {
		if _, err := w.Write(frame(kindBeat, 0, ids(r.ID))); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// ways are those in which an agent is hostile after its greeting.
var ways = map[string]wicked{
	"silence": func(io.Writer, request) {},
	"a byte at a time": func(w io.Writer, r request) {
		slowly(w, frame(kindAnswer, r.ID, `{"observation":{"delta":{"action":""}}}`))
	},
	"alive without end": aliveForever,
	"flood of life":     func(w io.Writer, r request) { forever(w, frame(kindBeat, 0, ids(r.ID))) },
	"flood of answers":  func(w io.Writer, r request) { forever(w, frame(kindAnswer, r.ID+1, `{}`)) },
	"flood of changes": func(w io.Writer, r request) {
		forever(w, frame(kindChange, r.ID, `{"delta":{"action":"create"}}`))
	},
	"flood of wishes": func(w io.Writer, r request) { forever(w, frame(kindWant, 1, strings.Repeat("ab", 32))) },
	"16 MiB": func(w io.Writer, r request) {
		w.Write(frame(kindAnswer, r.ID, `{"error":{"message":"`+strings.Repeat("x", 16<<20)+`"}}`))
	},
	"4 GiB announced": func(w io.Writer, r request) {
		w.Write(append([]byte{kindAnswer, 255, 255, 255, 255}, ids(r.ID)...))
	},
	"deep": func(w io.Writer, r request) {
		w.Write(frame(kindAnswer, r.ID, `{"observation":{"status":`+strings.Repeat("[", 100_000)+
			strings.Repeat("]", 100_000)+`}}`))
	},
	"wide": func(w io.Writer, r request) {
		w.Write(frame(kindAnswer, r.ID, `{"observation":{"delta":{"fields":[`+strings.Repeat("{},", 70_000)+`{}]}}}`))
	},
	"another's answer": func(w io.Writer, r request) { w.Write(frame(kindAnswer, r.ID, greeting)) },
	"no answer in it":  func(w io.Writer, r request) { w.Write(frame(kindAnswer, r.ID, `{}`)) },
	"no such action": func(w io.Writer, r request) {
		w.Write(frame(kindAnswer, r.ID, `{"observation":{"delta":{"action":"\u001b[2J"}}}`))
	},
	"not JSON":         func(w io.Writer, r request) { w.Write(frame(kindAnswer, r.ID, `{"observation":`)) },
	"another protocol": func(w io.Writer, r request) { w.Write(frame('Z', r.ID, ``)) },
	"twice": func(w io.Writer, r request) {
		b := frame(kindAnswer, r.ID, `{"error":{"message":"no"}}`)
		w.Write(append(b, b...))
	},
	"an error of escapes": func(w io.Writer, r request) {
		w.Write(frame(kindAnswer, r.ID,
			`{"error":{"message":"\u001b[2J\u202e\u009b x\r\ny","hint":"curl x | sh","permanent":true}}`))
	},
}

// Each way ends within the limits, names the container, and leaves nothing that a terminal would act on.
func TestHostileWays(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := face(t, polite(way), Session{})
			if err != nil {
				t.Fatal(err)
			}
			for _, ask := range []func() error{
				func() error { _, err := c.Observe(t.Context(), file("/x", digest(nil))); return err },
				func() error { _, err := c.Apply(t.Context(), file("/x", digest(nil)), engine.Consent{}); return err },
				func() error {
					_, err := c.Check(t.Context(), json.RawMessage(`{}`),
						Answer{Bytes: 1 << 10, String: 100, Within: time.Second})
					return err
				},
				c.Close,
			} {
				start := time.Now()
				err := ask()
				if took := time.Since(start); took > enough {
					t.Errorf("it took %s", took)
				}
				if err == nil {
					continue // an error is told once, and a check may say nothing
				}
				if !strings.Contains(err.Error(), "container 201") ||
					strings.ContainsAny(err.Error(), "\x1b\u202e\u009b\r\x00") {
					t.Errorf("%q", err)
				}
				if hint := provider.Hint(err); strings.Contains(hint, "curl") {
					t.Errorf("advice of the container's: %q", hint)
				}
			}
		})
	}
}

// Whoever does not even greet, or does not read, is given up as well.
func TestHostileGreeting(t *testing.T) {
	for name, bad := range map[string]wicked{
		"never":  func(io.Writer, request) {},
		"slowly": func(w io.Writer, r request) { slowly(w, frame(kindAnswer, r.ID, greeting)) },
		"large": func(w io.Writer, r request) {
			w.Write(frame(kindAnswer, r.ID, strings.Repeat(" ", helloBytes)+greeting))
		},
		"unasked":     func(w io.Writer, r request) { forever(w, frame(kindChange, 1, `{}`)) },
		"no greeting": func(w io.Writer, r request) { w.Write(frame(kindAnswer, r.ID, `{}`)) },
	} {
		start := time.Now()
		_, err := face(t, bad, Session{})
		if err == nil || !strings.Contains(err.Error(), "container 201") || time.Since(start) > enough {
			t.Errorf("%s: after %s: %v", name, time.Since(start), err)
		}
	}
}

func TestHostileReadsNothing(t *testing.T) {
	r, w := io.Pipe()
	back, said := io.Pipe()
	c := NewClient(back, w, func() error { return nil }, func() { w.Close(); r.Close(); said.Close(); back.Close() },
		Session{Container: "201", Limits: quick})
	start := time.Now()
	_, err := c.Observe(t.Context(), file("/x", ""))
	if !errors.Is(err, engine.ErrUnresponsive) || !strings.Contains(err.Error(), "container 201") ||
		time.Since(start) > enough {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}

// Only what an object that is applied needs is sent, twice at most, and nobody else's.
func TestHostileWishes(t *testing.T) {
	var opened atomic.Int32
	all := make(chan struct{}) // that one change may have are opened
	s := Session{Blobs: func(string) (io.ReadCloser, error) {
		if opened.Add(1) == blobsEach {
			close(all)
		}
		return io.NopCloser(bytes.NewReader(nil)), nil
	}}
	wish := func(w io.Writer, r request) {
		for i := range uint32(40) {
			if i == blobsEach && r.Op == opApply { // the next one ends the session, and what is not opened by then stays so
				select {
				case <-all:
				case <-t.Context().Done():
				}
			}
			if _, err := w.Write(frame(kindWant, i, digest(nil))); err != nil {
				return
			}
		}
	}
	for op, most := range map[string]int32{opObserve: 0, opApply: blobsEach} {
		opened.Store(0)
		c, err := face(t, polite(wish), s)
		if err != nil {
			t.Fatal(err)
		}
		if op == opApply {
			_, err = c.Apply(t.Context(), file("/x", digest(nil)), engine.Consent{})
		} else {
			_, err = c.Observe(t.Context(), file("/x", digest(nil)))
		}
		if !errors.Is(err, engine.ErrUnresponsive) || opened.Load() != most {
			t.Errorf("%s: %d blobs were opened: %v", op, opened.Load(), err)
		}
	}
}

// What changes is what was asked for, and when to look again or what of this host is watched is not for a container to
// say.
func TestHostileSaysWhatIsNotItsOwn(t *testing.T) {
	var told []object.Object
	s := Session{Changing: func(o object.Object, _ plan.Delta) { told = append(told, o) }}
	c, err := face(t, polite(func(w io.Writer, r request) {
		if r.Op == opApply {
			w.Write(frame(kindChange, r.ID,
				`{"object":{"address":"running/101"},"delta":{"action":"delete","reason":"a\nb"}}`))
			w.Write(frame(kindAnswer, r.ID,
				`{"outcome":{"delta":{"action":"update"},"after":{"delta":{"action":"update"}},"mutations":-5}}`))
			return
		}
		w.Write(frame(kindAnswer, r.ID,
			`{"observation":{"status":{"a":"x\u001by"},"delta":{"action":""},"next":"2001-01-01T00:00:00Z","watch":{"paths":["/etc/shadow"],"processes":[1]}}}`))
	}), s)
	if err != nil {
		t.Fatal(err)
	}
	obs, err := c.Observe(t.Context(), file("/x", ""))
	if err != nil || !obs.Next.IsZero() || !obs.Watch.Empty() || strings.Contains(string(obs.Status), "u001b") {
		t.Errorf("%+v, %s, %v", obs, obs.Status, err)
	}
	out, err := c.Apply(t.Context(), file("/x", ""), engine.Consent{})
	if err == nil || !strings.Contains(err.Error(), "still differs") || out.Mutations != 0 {
		t.Errorf("it changed its mind: %+v, %v", out, err)
	}
	if len(told) != 1 || told[0].Address != "file/1/x" {
		t.Errorf("told of %v", told)
	}
}

// Work that takes long goes on as long as there are signs of it.
func TestLongWorkGoesOn(t *testing.T) {
	c, err := face(t, polite(func(w io.Writer, r request) {
		for range 7 {
			time.Sleep(100 * time.Millisecond)
			w.Write(frame(kindBeat, 0, ids(r.ID)))
		}
		w.Write(frame(kindAnswer, r.ID, `{"outcome":{"delta":{"action":"update"},"after":{"delta":{"action":""}}}}`))
	}), Session{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(context.Background(), file("/x", ""), engine.Consent{}); err != nil {
		t.Error(err)
	}
}

// Whatever comes from a container: no panic, and an end.
func FuzzClient(f *testing.F) {
	for _, way := range []string{"", "lxc-attach: x\n", string(frame(kindAnswer, 1, greeting)),
		string(frame(kindAnswer, 1, greeting)) +
			string(frame(kindAnswer, 2, `{"observation":{"delta":{"action":"create","fields":[{}]}}}`)),
		string(frame(kindAnswer, 1, greeting)) + string(frame(kindBeat, 0, ids(2))) +
			string(frame(kindWant, 1, digest(nil))) + string(frame(kindChange, 2, `{}`)),
	} {
		f.Add([]byte(way))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := NewClient(bytes.NewReader(in), io.Discard, func() error { return nil }, nil,
			Session{Container: "201", Limits: quick})
		defer c.Close()
		if err := c.hello(t.Context()); err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\r\x00") {
				t.Errorf("%q", err)
			}
			return
		}
		obs, err := c.Observe(t.Context(), file("/x", digest(nil)))
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\r\x00") ||
			strings.ContainsAny(obs.Delta.Reason, "\n\x1b") {
			t.Errorf("%q, %v", obs.Delta.Reason, err)
		}
	})
}
