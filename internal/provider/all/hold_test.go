package all

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// stuck is a container's inside in memory, in which one program, or every connection, does not come to its end.
type stuck struct {
	host.Host
	program string            // the beginning of its command line; "dial": connections
	said    map[string]string // what other programs print, by the beginning of their command lines
	begun   chan struct{}
	let     chan struct{}

	mu    sync.Mutex
	files map[string]string
	begin sync.Once
}

func (h *stuck) hang(ctx context.Context) error {
	h.begin.Do(func() { close(h.begun) })
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-h.let:
		return nil
	}
}

func (h *stuck) Run(ctx context.Context, c host.Command) (host.Result, error) {
	line := strings.Join(c.Argv, " ")
	if strings.HasPrefix(line, h.program) {
		if err := h.hang(ctx); err != nil {
			return host.Result{Code: -1}, &host.RunError{Argv: c.Argv, Code: -1, Cause: err}
		}
		return host.Result{}, nil
	}
	for prefix, out := range h.said {
		if strings.HasPrefix(line, prefix) {
			return host.Result{Stdout: []byte(out)}, nil
		}
	}
	return host.Result{}, nil
}

func (h *stuck) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if h.program != "dial" {
		return nil, errors.New("refused")
	}
	return nil, orRefused(h.hang(ctx))
}

func orRefused(err error) error {
	if err == nil {
		return errors.New("refused, after all")
	}
	return err
}

func (h *stuck) ReadFile(path string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text, ok := h.files[path]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (h *stuck) WriteFile(path string, data []byte, _ fs.FileMode, _ host.Owner) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[path] = string(data)
	return nil
}

func (h *stuck) Lstat(path string) (host.Meta, error) {
	b, err := h.ReadFile(path)
	return host.Meta{Mode: 0o644, Size: int64(len(b))}, err
}

func (h *stuck) ReadDir(path string) (out []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.files {
		if filepath.Dir(name) == path {
			out = append(out, filepath.Base(name))
		}
	}
	return out, nil
}

func (h *stuck) Readlink(path string) (string, error) {
	return "", &fs.PathError{Op: "readlink", Path: path, Err: fs.ErrNotExist}
}

func (h *stuck) Fetch(_ context.Context, _, path string, mode fs.FileMode, o host.Owner) error {
	return h.WriteFile(path, nil, mode, o)
}

func (h *stuck) Lookup(string, string) (host.Owner, error)      { return host.Owner{}, fs.ErrNotExist }
func (h *stuck) Now() time.Time                                 { return time.Now() }
func (h *stuck) MkdirAll(string, fs.FileMode, host.Owner) error { return nil }
func (h *stuck) Chmod(string, fs.FileMode) error                { return nil }
func (h *stuck) Chown(string, host.Owner) error                 { return nil }
func (h *stuck) Rename(string, string) error                    { return nil }
func (h *stuck) Symlink(string, string) error                   { return nil }
func (h *stuck) Remove(string) error                            { return nil }
func (h *stuck) RemoveAll(string) error                         { return nil }
func (h *stuck) Digest(path string) (string, error)             { _, err := h.ReadFile(path); return "", err }
func (h *stuck) Setxattr(string, string, string) error          { return nil }
func (h *stuck) Getxattr(string, string) (string, error)        { return "", nil }

const (
	inactive = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=enabled\nMainPID=0\nResult=success\n"
	active   = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=0\nResult=success\n"
	wanted   = "/etc/systemd/system/multi-user.target.wants/x.service"
)

// holds are all kinds of objects in containers: how long each may hold the lock of its container, and what of it hangs
// in this test. What may take long by itself is outside of the lock.
var holds = []struct {
	driver  string
	most    time.Duration
	spec    any
	program string // that hangs; empty: see why
	outside bool   // of the lock
	said    map[string]string
	why     string
}{
	{driver: "unit/unit", most: 15 * time.Second, spec: spec.Unit{Name: "x.service"}, program: "systemctl start",
		outside: true, said: map[string]string{"systemctl show": inactive}},
	{driver: "unit/unit", most: 15 * time.Second, spec: spec.Unit{Name: "x.service", Stopped: true},
		program: "systemctl disable --now", outside: true, said: map[string]string{"systemctl show": active}},
	{driver: "unit/unit", most: 15 * time.Second, spec: spec.Unit{Name: "x.service", Content: "[Service]\n"},
		program: "systemctl daemon-reload", said: map[string]string{"systemctl show": inactive}},
	{driver: "script/script", most: 30 * time.Second,
		spec:    spec.Script{Name: "x", SHA256: strings.Repeat("0", 64)},
		program: "/var/lib/phoenix/scripts/x", outside: true},
	{driver: "pkg/package", most: 5 * time.Second, spec: spec.Package{Names: []string{"nginx"}}, program: "apt-get",
		outside: true},
	{driver: "trust/trust", most: time.Minute, program: "dial", outside: true,
		spec: spec.Trust{Name: "x", Server: "https://ca.test:9000", Fingerprint: strings.Repeat("0", 64)}},
	{driver: "user/user", most: 15 * time.Second, spec: spec.User{Name: "step", UID: 901}, program: "useradd"},
	{driver: "file/file", most: 2 * time.Minute, why: "writes files"},
	{driver: "agent/agent", most: 15 * time.Second, why: "writes files"},
	{driver: "stepca/stepca", most: time.Minute, why: "makes keys and writes files"},
	{driver: "nginx/nginx", most: 15 * time.Second,
		why: "nginx -t has no wait; a reload is waited for outside: TestReloadThatIsNotTaken of its package"},
	{driver: "certificate/certificate", most: 15 * time.Second,
		why: "the order and the reload are outside: bound_test.go and hold_test.go of its package"},
	{driver: "traefik/traefik", most: time.Minute, why: "waits are outside: stall_test.go of its package"},
}

// onHypervisor are the kinds that no agent keeps: the lock of a container is not theirs.
var onHypervisor = []string{"network", "port", "dns", "subid", "sysctl", "template", "volume", "firewall",
	"hostfirewall", "access", "ids", "container", "running", "binary", "storage", "snapshot", "node", "hosttrust", "pin"}

// TestEveryKindSaysHowLongItHoldsTheLock wants a row for each kind of object in containers.
func TestEveryKindSaysHowLongItHoldsTheLock(t *testing.T) {
	for name := range Drivers() {
		_, kind, _ := strings.Cut(name, "/")
		if slices.Contains(onHypervisor, kind) {
			continue
		}
		rows := 0
		for _, row := range holds {
			if row.driver != name {
				continue
			}
			rows++
			got := agent.HoldMost(object.Object{Address: object.NewAddress(kind, "101", "x")})
			if got != row.most || got > 2*time.Minute {
				t.Errorf("%s may hold the lock for %s; the table says %s", name, got, row.most)
			}
		}
		if rows == 0 {
			t.Errorf("%s has no row in holds: what of it may take long, and is it outside of the lock "+
				"(provider.Wait, provider.Alone)? Its time is in internal/agent/hold.go", name)
		}
	}
}

// TestWhatHangsHoldsNobodyUp has one program of one object hang, and another fault of the same container mended by
// another process meanwhile: at once where it hangs outside of the lock, else when the object's time is over. It tells
// by the order of things, not by seconds: what hangs would do so for ever.
func TestWhatHangsHoldsNobodyUp(t *testing.T) {
	for _, row := range holds {
		if row.why != "" {
			continue
		}
		t.Run(row.driver+" "+row.program, func(t *testing.T) {
			t.Parallel()
			h := &stuck{program: row.program, said: row.said, begun: make(chan struct{}), let: make(chan struct{}),
				files: map[string]string{"/var/lib/dpkg/status": "", wanted: "", "/etc/passwd": "", "/etc/group": ""}}
			raw, err := json.Marshal(row.spec)
			if err != nil {
				t.Fatal(err)
			}
			provider, kind, _ := strings.Cut(row.driver, "/")
			o := object.Object{Address: object.NewAddress(kind, "101", "x"), Provider: provider, Spec: raw}
			path := filepath.Join(t.TempDir(), "lock")
			lock := engine.FileLock{Path: path}.Lock
			target := engine.NewLocal(Drivers(), h, lock, nil, nil)
			target.Key = agent.KeyLock(path)
			target.Most = func(object.Object) time.Duration { return 300 * time.Millisecond }
			if row.outside {
				target.Most = agent.HoldMost
			}
			stop, halt := context.WithCancel(context.Background())
			ctx, free := engine.Interruptible(context.Background(), stop)
			defer free()
			defer halt()
			ended := make(chan error, 1)
			go func() {
				_, err := target.Apply(ctx, o, engine.Consent{Destroy: true})
				ended <- err
			}()
			select {
			case <-h.begun:
			case err := <-ended:
				t.Fatalf("it did not come to %q: %v", row.program, err)
			case <-time.After(20 * time.Second):
				t.Fatalf("it did not come to %q", row.program)
			}
			limited, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			start := time.Now()
			unlock, err := lock(limited)
			if err != nil {
				t.Fatalf("another fault waits: %v", err)
			}
			t.Logf("another fault waited %s", time.Since(start).Round(time.Millisecond))
			unlock()
			select {
			case err := <-ended:
				var held *engine.HoldError
				if row.outside || !errors.As(err, &held) {
					t.Errorf("it ended meanwhile: %v", err)
				}
				return
			case <-time.After(100 * time.Millisecond):
			}
			close(h.let)
			halt() // what started it does not wait for what the fake does not do
			<-ended
		})
	}
}
