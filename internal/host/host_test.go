package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var same = Owner{UID: -1, GID: -1}

// What Quote writes, a real shell reads back the same.
func TestQuote(t *testing.T) {
	argv := []string{"printf", `%s\0`, "", "plain", "two words", "it's", "$HOME", "a\nb", "*", "-x", "ü"}
	out, err := exec.Command("sh", "-c", Quote(argv)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(argv[2:], "\x00") + "\x00"; string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func TestRun(t *testing.T) {
	h, ctx := &Local{}, context.Background()
	res, err := h.Run(ctx, Command{Argv: []string{"sh", "-c", `cat; echo "$SECRET$LC_ALL"; pwd`},
		Stdin: []byte("in\n")})
	if err != nil || string(res.Stdout) != "in\nC.UTF-8\n/\n" {
		t.Errorf("%q, %v", res.Stdout, err)
	}
	_, err = h.Run(ctx, Command{Argv: []string{"sh", "-c", "echo no room >&2; exit 7"}})
	var run *RunError
	if !errors.As(err, &run) || run.Code != 7 || !strings.Contains(err.Error(), "sh -c 'echo no room >&2; exit 7'") ||
		!strings.HasSuffix(err.Error(), "no room") {
		t.Errorf("%v", err)
	}
	if _, err = h.Run(ctx, Command{Argv: []string{"/does/not/exist"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// The caller's environment is not passed on: it may hold secrets.
func TestRunEnvironment(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	res, err := (&Local{}).Run(context.Background(), Command{Argv: []string{"env"}, Env: []string{"A=b"}})
	if err != nil || strings.Contains(string(res.Stdout), "hunter2") || !strings.Contains(string(res.Stdout), "A=b\n") {
		t.Errorf("%s, %v", res.Stdout, err)
	}
}

func TestRunEnds(t *testing.T) {
	h := &Local{}
	start := time.Now()
	_, err := h.Run(context.Background(), Command{Argv: []string{"sleep", "60"}, Limit: 20 * time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "gave up after 20ms") {
		t.Errorf("limit: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("interrupted"))
	if _, err = h.Run(ctx, Command{Argv: []string{"sleep", "60"}}); err == nil ||
		strings.Contains(err.Error(), "gave up") {
		t.Errorf("cancelled: %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("the commands ran on for %s", took)
	}
}

// A child that says more than is kept neither blocks nor fails.
func TestRunKeepsTheFirstMebibyte(t *testing.T) {
	res, err := (&Local{}).Run(context.Background(), Command{Argv: []string{"sh", "-c", "head -c 3000000 /dev/zero"}})
	if err != nil || len(res.Stdout) != outputLimit {
		t.Errorf("%d bytes, %v", len(res.Stdout), err)
	}
}

func TestFetchChecks(t *testing.T) {
	content := []byte("a program")
	sum := sha256.Sum256(content)
	good, path := hex.EncodeToString(sum[:]), filepath.Join(t.TempDir(), "x")
	h := &Local{Blob: func(context.Context, string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
	if err := h.Fetch(context.Background(), strings.Repeat("0", 64), path, 0o700, same); err == nil ||
		!strings.Contains(err.Error(), "checksum does not match") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what did not match was put in place: %v", err)
	}
	if err := h.Fetch(context.Background(), good, path, 0o700, same); err != nil {
		t.Error(err)
	}
	if got, err := h.Digest(path); err != nil || got != good {
		t.Errorf("%s, %v", got, err)
	}
	if err := (&Local{}).Fetch(context.Background(), good, path, 0o700, same); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// changes is every changing call, on a system where each has something to change.
func changes(dir string) map[string]func(h Host) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	return map[string]func(h Host) error{
		"run": func(h Host) error {
			_, err := h.Run(context.Background(), Command{Argv: []string{"touch", at("touched")}, Mutates: true})
			return err
		},
		"write":     func(h Host) error { return h.WriteFile(at("written"), []byte("x"), 0o600, same) },
		"mkdir":     func(h Host) error { return h.MkdirAll(at("a/b"), 0o700, same) },
		"chmod":     func(h Host) error { return h.Chmod(at("there"), 0o640) },
		"chown":     func(h Host) error { return h.Chown(at("there"), Owner{UID: os.Getuid(), GID: os.Getgid()}) },
		"rename":    func(h Host) error { return h.Rename(at("moving"), at("moved")) },
		"symlink":   func(h Host) error { return h.Symlink("there", at("link")) },
		"remove":    func(h Host) error { return h.Remove(at("removed")) },
		"removeall": func(h Host) error { return h.RemoveAll(at("directory")) },
	}
}

func system(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"there", "moving", "removed", "directory/file"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Each changing call counts as one, and its repetition as none where nothing is left to change.
func TestCountedAndFaulty(t *testing.T) {
	for name := range changes("") {
		t.Run(name, func(t *testing.T) {
			c := NewCounted(&Local{}, nil)
			if err := changes(system(t))[name](c); err != nil || c.Mutations() != 1 {
				t.Errorf("%d changes, %v", c.Mutations(), err)
			}
			for _, applied := range []bool{false, true} {
				dir := system(t)
				f := &Faulty{Host: &Local{}, At: 1, Applied: applied}
				before := listing(t, dir)
				if err := changes(dir)[name](f); !errors.Is(err, ErrInjected) {
					t.Errorf("applied %t: %v", applied, err)
				}
				if changed := listing(t, dir) != before; changed != applied && name != "chown" { // to its own owner
					t.Errorf("applied %t, but changed %t", applied, changed)
				}
				if err := changes(dir)["write"](f); !errors.Is(err, ErrInjected) {
					t.Errorf("after the fault: %v", err)
				}
			}
		})
	}
	dir, c := system(t), NewCounted(&Local{}, nil)
	for _, do := range []func() error{
		func() error { return c.MkdirAll(dir, 0o700, same) },
		func() error { return c.Remove(filepath.Join(dir, "never")) },
		func() error { return c.RemoveAll(filepath.Join(dir, "never")) },
		func() error { _, err := c.Run(context.Background(), Command{Argv: []string{"true"}}); return err },
	} {
		if err := do(); err != nil || c.Mutations() != 0 {
			t.Errorf("%d changes, %v; want none", c.Mutations(), err)
		}
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%P %m %y\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// At its limit a command ends with all it has started, also where that does not heed SIGTERM and holds the pipes.
func TestLimitEndsTheWholeGroup(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	script := `trap "" TERM; sleep 600 & echo $! $$ >"$1.new"; mv "$1.new" "$1"; wait; sleep 600`
	start := time.Now()
	_, err := (&Local{Grace: 50 * time.Millisecond}).Run(context.Background(), Command{
		Argv: []string{"sh", "-c", script, "sh", pids}, Limit: 200 * time.Millisecond,
	})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	raw, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(raw)) {
		if !ends(pid) {
			t.Errorf("process %s lives on", pid)
		}
	}
}

// ends waits a little for a process to be gone, or dead and not waited for yet.
func ends(pid string) bool {
	for range 200 {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// A directory of our own is never seen with another mode than it should have, so that a kill at any moment leaves none.
func TestMkdirAllIsWhole(t *testing.T) {
	dir := t.TempDir()
	for i := range 300 {
		path, seen := filepath.Join(dir, fmt.Sprint(i)), make(chan fs.FileMode)
		go func() {
			for {
				if fi, err := os.Lstat(path); err == nil {
					seen <- fi.Mode().Perm()
					return
				}
			}
		}()
		if err := (&Local{}).MkdirAll(path, 0o711, same); err != nil {
			t.Fatal(err)
		}
		if mode := <-seen; mode != 0o711 {
			t.Fatalf("seen with mode %04o", mode)
		}
	}
}
