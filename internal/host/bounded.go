package host

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ErrUnresponsive is a file system that does not answer.
var ErrUnresponsive = errors.New("the file system does not answer")

// boundedLimit is how long a file system may take for one answer. Those of a cluster take milliseconds.
const boundedLimit = 5 * time.Second

// Bounded gives up what is asked of a file system that hangs: that of Proxmox's configuration is a process, and while
// it says nothing no signal ends a call. Such a call is left behind with its goroutine, and until it comes back none is
// begun, nor a command that would hang in the same way. Everything outside of Dir goes to Host as it is.
type Bounded struct {
	Host
	Dir   string
	Tools []string      // commands that ask the same file system, whatever their arguments are
	Limit time.Duration // 0: 5 s

	lost atomic.Int32 // calls that were left behind
}

func (b *Bounded) below(path string) bool {
	return path == b.Dir || strings.HasPrefix(path, strings.TrimSuffix(b.Dir, "/")+"/")
}

// answer asks for one thing, for as long as the limit says.
func answer[T any](b *Bounded, op, path string, ask func() (T, error)) (T, error) {
	var none T
	silent := &fs.PathError{Op: op, Path: path, Err: ErrUnresponsive}
	if b.lost.Load() > 0 {
		return none, silent
	}
	type result struct {
		value T
		err   error
	}
	came := make(chan result, 1)
	go func() {
		value, err := ask()
		came <- result{value, err}
	}()
	t := time.NewTimer(cmp.Or(b.Limit, boundedLimit))
	defer t.Stop()
	select {
	case r := <-came:
		return r.value, r.err
	case <-t.C:
		b.lost.Add(1)
		go func() {
			<-came
			b.lost.Add(-1)
		}()
		return none, silent
	}
}

func (b *Bounded) change(op, path string, do func() error) error {
	if !b.below(path) {
		return do()
	}
	_, err := answer(b, op, path, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// Run implements Host. A command that asks the file system is not begun while that says nothing.
func (b *Bounded) Run(ctx context.Context, c Command) (Result, error) {
	if slices.Contains(b.Tools, filepath.Base(c.Argv[0])) || slices.ContainsFunc(c.Argv, b.below) {
		if _, err := b.Lstat(b.Dir); errors.Is(err, ErrUnresponsive) {
			return Result{Code: -1}, err
		}
	}
	return b.Host.Run(ctx, c)
}

// ReadFile implements Host.
func (b *Bounded) ReadFile(path string) ([]byte, error) {
	if !b.below(path) {
		return b.Host.ReadFile(path)
	}
	return answer(b, "open", path, func() ([]byte, error) { return b.Host.ReadFile(path) })
}

// Digest implements Host.
func (b *Bounded) Digest(path string) (string, error) {
	if !b.below(path) {
		return b.Host.Digest(path)
	}
	return answer(b, "open", path, func() (string, error) { return b.Host.Digest(path) })
}

// Lstat implements Host.
func (b *Bounded) Lstat(path string) (Meta, error) {
	if !b.below(path) {
		return b.Host.Lstat(path)
	}
	return answer(b, "lstat", path, func() (Meta, error) { return b.Host.Lstat(path) })
}

// ReadDir implements Host.
func (b *Bounded) ReadDir(path string) ([]string, error) {
	if !b.below(path) {
		return b.Host.ReadDir(path)
	}
	return answer(b, "open", path, func() ([]string, error) { return b.Host.ReadDir(path) })
}

// Readlink implements Host.
func (b *Bounded) Readlink(path string) (string, error) {
	if !b.below(path) {
		return b.Host.Readlink(path)
	}
	return answer(b, "readlink", path, func() (string, error) { return b.Host.Readlink(path) })
}

// WriteFile implements Host.
func (b *Bounded) WriteFile(path string, data []byte, mode fs.FileMode, owner Owner) error {
	return b.change("write", path, func() error { return b.Host.WriteFile(path, data, mode, owner) })
}

// MkdirAll implements Host.
func (b *Bounded) MkdirAll(path string, mode fs.FileMode, owner Owner) error {
	return b.change("mkdir", path, func() error { return b.Host.MkdirAll(path, mode, owner) })
}

// Rename implements Host.
func (b *Bounded) Rename(oldpath, newpath string) error {
	return b.change("rename", newpath, func() error { return b.Host.Rename(oldpath, newpath) })
}

// Remove implements Host.
func (b *Bounded) Remove(path string) error {
	return b.change("remove", path, func() error { return b.Host.Remove(path) })
}

// RemoveAll implements Host.
func (b *Bounded) RemoveAll(path string) error {
	return b.change("remove", path, func() error { return b.Host.RemoveAll(path) })
}
