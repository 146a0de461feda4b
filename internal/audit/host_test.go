package audit

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

var now = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

type fakeFile struct {
	meta host.Meta
	data string // a link: where it leads
}

// fakeHost is a system in memory. What changes a system is not implemented: calling it ends the test.
type fakeHost struct {
	host.Host
	t     *testing.T
	files map[string]fakeFile
	runs  map[string]string // output by argv, joined; what is not in it fails
	dials []string          // addresses that answer
	inode uint64
}

func newHost(t *testing.T) *fakeHost {
	h := &fakeHost{t: t, files: map[string]fakeFile{}, runs: map[string]string{}}
	h.dir("/", 0o755, 0)
	h.dir("/proc", 0o555, 0)
	return h
}

func (h *fakeHost) put(name string, mode fs.FileMode, uid int, data string) {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		if _, ok := h.files[dir]; !ok {
			h.dir(dir, 0o755, 0)
		}
	}
	h.inode++
	h.files[name] = fakeFile{host.Meta{Mode: mode, UID: uid, GID: uid, Size: int64(len(data)), Inode: h.inode,
		Device: 1, ModTime: now}, data}
}

func (h *fakeHost) dir(name string, mode fs.FileMode, uid int) {
	h.put(name, mode|fs.ModeDir, uid, "")
}

// change edits what is there.
func (h *fakeHost) change(name string, edit func(*host.Meta)) {
	f := h.files[name]
	edit(&f.meta)
	h.files[name] = f
}

func (h *fakeHost) Now() time.Time { return now }

func (h *fakeHost) Run(_ context.Context, c host.Command) (host.Result, error) {
	if c.Mutates {
		h.t.Errorf("the audit changes the system: %q", c.Argv)
	}
	out, ok := h.runs[strings.Join(c.Argv, " ")]
	if !ok {
		return host.Result{Code: 1}, &host.RunError{Argv: c.Argv, Code: 1, Cause: errors.New("exit status 1")}
	}
	return host.Result{Stdout: []byte(out)}, nil
}

func (h *fakeHost) find(op, name string) (fakeFile, error) {
	f, ok := h.files[name]
	if !ok {
		return f, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (h *fakeHost) ReadFile(name string) ([]byte, error) {
	f, err := h.find("open", name)
	return []byte(f.data), err
}

func (h *fakeHost) Readlink(name string) (string, error) {
	f, err := h.find("readlink", name)
	return f.data, err
}

func (h *fakeHost) Lstat(name string) (host.Meta, error) {
	f, err := h.find("lstat", name)
	return f.meta, err
}

func (h *fakeHost) ReadDir(name string) ([]string, error) {
	f, err := h.find("open", name)
	if err == nil && !f.meta.Mode.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a directory")}
	}
	var out []string
	for p := range h.files {
		if path.Dir(p) == name && p != name {
			out = append(out, path.Base(p))
		}
	}
	slices.Sort(out)
	return out, err
}

func (h *fakeHost) Dial(_ context.Context, network, address string) (net.Conn, error) {
	if !slices.Contains(h.dials, network+" "+address) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	near, far := net.Pipe()
	far.Close()
	return near, nil
}
