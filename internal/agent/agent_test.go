package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// copies keeps files that are fetched as blobs.
type copies struct{}

type copySpec struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

type copyStatus struct {
	SHA256 string `json:"sha256"`
}

func (copies) Decode(raw json.RawMessage) (copySpec, diag.List) {
	return provider.Decode[copySpec](raw)
}

func (copies) Observe(_ context.Context, h host.Host, _ object.Address, s copySpec) (*copyStatus, error) {
	sum, err := h.Digest(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &copyStatus{SHA256: sum}, err
}

func (copies) Diff(want copySpec, have *copyStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create}
	}
	var d plan.Delta
	d.Compare("sha256", have.SHA256, want.SHA256)
	return d
}

func (copies) Apply(ctx context.Context, h host.Host, _ object.Address, s copySpec, _ plan.Delta) error {
	err := h.Fetch(ctx, s.SHA256, s.Path, 0o644, host.Owner{UID: -1, GID: -1})
	if errors.Is(err, fs.ErrNotExist) {
		return provider.PermanentHint(err, "give it")
	}
	return err
}

var drivers = engine.Drivers{"copy/file": provider.New(copies{})}

// session starts a Server and a Client that talk over pipes; blobs are by SHA-256.
func session(t *testing.T, blobs map[string][]byte, changing func(object.Object, plan.Delta)) *Client {
	t.Helper()
	down, up := newPipe(), newPipe()
	s := &Server{Drivers: drivers, Hello: Hello{Version: "v1", SHA256: "abc"}}
	var group sync.WaitGroup
	group.Go(func() {
		if err := s.Serve(context.Background(), down.r, up.w); err != nil {
			t.Errorf("serve: %v", err)
		}
		up.w.Close()
	})
	kill := func() { down.w.Close(); up.r.Close() }
	c := NewClient(up.r, down.w, func() error { down.w.Close(); group.Wait(); return nil }, kill, Session{
		Container: "1", Changing: changing,
		Blobs: func(sum string) (io.ReadCloser, error) {
			b, ok := blobs[sum]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return io.NopCloser(bytes.NewReader(b)), nil
		},
	})
	t.Cleanup(func() { c.Close() })
	return c
}

type pipe struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newPipe() pipe {
	r, w := io.Pipe()
	return pipe{r, w}
}

func file(path, sum string) object.Object {
	b, _ := json.Marshal(copySpec{Path: path, SHA256: sum})
	return object.Object{Address: "file/1/" + object.Address(filepath.Base(path)), Provider: "copy", Spec: b}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestSessionCarriesBlobsManyAtOnce(t *testing.T) {
	dir, blobs := t.TempDir(), map[string][]byte{}
	var objects []object.Object
	for i := range 6 {
		content := bytes.Repeat([]byte{byte(i)}, i*700_001) // none, less than a piece, several pieces
		blobs[digest(content)] = content
		objects = append(objects, file(filepath.Join(dir, fmt.Sprint(i)), digest(content)))
	}
	var told int
	var mu sync.Mutex
	c := session(t, blobs, func(object.Object, plan.Delta) { mu.Lock(); told++; mu.Unlock() })
	engine.Each(len(objects), len(objects), func(i int) {
		out, err := c.Apply(context.Background(), objects[i], engine.Consent{})
		if err != nil || out.Delta.Action != plan.Create || out.Mutations != 1 {
			t.Errorf("object %d: %+v, %v", i, out, err)
		}
	})
	for i := range objects {
		obs, err := c.Observe(context.Background(), objects[i])
		if err != nil || !obs.Delta.Empty() {
			t.Errorf("object %d: %+v, %v", i, obs, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if told != len(objects) {
		t.Errorf("heard of %d changes, want %d", told, len(objects))
	}
}

func TestSessionErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	wrong := digest([]byte("what was asked for"))
	c := session(t, map[string][]byte{wrong: []byte("something else")}, nil)
	_, err := c.Apply(context.Background(), file(path, wrong), engine.Consent{})
	if err == nil || !strings.Contains(err.Error(), "checksum does not match") {
		t.Errorf("wrong content: %v", err)
	}
	_, err = c.Apply(context.Background(), file(path, digest(nil)), engine.Consent{})
	var p *provider.PermanentError
	if !errors.As(err, &p) || !strings.Contains(p.Hint, "phoenix health 1 tells more") ||
		!strings.Contains(err.Error(), "container 1 says: ") {
		t.Errorf("no such blob: %v, %q", err, p.Hint)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused blob left a file: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Observe(context.Background(), file(path, "")); !errors.Is(err, engine.ErrDisconnected) {
		t.Errorf("closed session: %v", err)
	}
}

func TestForeignBytesEndTheSession(t *testing.T) {
	c := NewClient(strings.NewReader("lxc-attach: 103: attach.c: no such container\n"), io.Discard,
		func() error { return nil }, nil, Session{Container: "103"})
	if _, err := c.Observe(context.Background(), file("/x", "")); !errors.Is(err, engine.ErrDisconnected) {
		t.Errorf("got %v", err)
	}
}

func TestDialTellsWhatTheCommandSaid(t *testing.T) {
	_, err := Dial(context.Background(), []string{"sh", "-c", "echo container is not there >&2; exit 3"},
		Session{Container: "1"})
	if err == nil || !strings.Contains(err.Error(), "container is not there") {
		t.Errorf("got %v", err)
	}
}

func TestDaemonRepairs(t *testing.T) {
	dir := t.TempDir()
	content := []byte("hello")
	path := filepath.Join(dir, "x")
	list, _ := json.Marshal(spec.Agent{Objects: []object.Object{file(path, digest(content))}})
	if err := os.WriteFile(filepath.Join(dir, "agent.json"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d := &Daemon{
		Drivers: drivers, Objects: filepath.Join(dir, "agent.json"), Status: filepath.Join(dir, "status.json"),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Host: &host.Local{Blob: func(context.Context, string) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content)), nil
		}},
	}
	var group sync.WaitGroup
	group.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for ctx.Err() == nil {
		if b, err := os.ReadFile(filepath.Join(dir, "status.json")); err == nil &&
			bytes.Contains(b, []byte(`"changes":1`)) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "hello" {
		t.Errorf("file: %q, %v", b, err)
	}
	cancel()
	group.Wait()
}
