package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// killer knows at which change the process ends.
type killer struct {
	calls, kill, base string
	nth               int
	after, parent     bool
	mu                sync.Mutex // guards seen and the file
	seen              map[string]int
}

func fromEnvironment(calls string) *killer {
	nth, err := strconv.Atoi(os.Getenv("PHX_NTH"))
	if err != nil {
		nth = 1
	}
	return &killer{
		calls: calls, kill: os.Getenv("PHX_KILL"), base: os.Getenv("PHX_BASE"), nth: nth,
		after: os.Getenv("PHX_AFTER") != "", parent: os.Getenv("PHX_PARENT") != "", seen: map[string]int{},
	}
}

// What differs from run to run: digests, process ids, random names.
var (
	digest = regexp.MustCompile(`[0-9a-f]{16,}`)
	pid    = regexp.MustCompile(`^(run kill .*) [0-9]+$`)
	random = regexp.MustCompile(`\.tmp-[0-9]+`)
)

func (k *killer) name(what string) string {
	if k.base != "" {
		what = strings.ReplaceAll(what, k.base, "BASE")
	}
	what = pid.ReplaceAllString(digest.ReplaceAllString(what, "H"), "$1 PID")
	return strings.ReplaceAll(random.ReplaceAllString(what, ".tmp-N"), "\n", `\n`)
}

// do makes a change, unless the process ends there.
func (k *killer) do(what string, change func() error) error {
	what = k.name(what)
	hit, err := k.note(what)
	if err != nil {
		return err
	}
	if hit && !k.after {
		k.die()
	}
	err = change()
	if hit {
		k.die()
	}
	return err
}

func (k *killer) note(what string) (hit bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := os.OpenFile(k.calls, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, what); err != nil {
		return false, err
	}
	k.seen[what]++
	// Once only: an agent that was killed is started anew with the same environment.
	_, err = os.Lstat(k.calls + ".struck")
	return what == k.kill && k.seen[what] == k.nth && errors.Is(err, fs.ErrNotExist), nil
}

// die is SIGKILL: nothing is put in order, no deferred function runs.
func (k *killer) die() {
	if err := os.WriteFile(k.calls+".struck", nil, 0o644); err != nil {
		panic(err)
	}
	if parent := os.Getppid(); k.parent && parent > 1 { // 0: it is in another pid namespace
		_ = syscall.Kill(parent, syscall.SIGKILL) // may be gone
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// watched is a driver whose changes go by the killer.
type watched struct {
	provider.Erased
	killer *killer
}

func (w watched) Apply(ctx context.Context, h host.Host, o object.Object, d plan.Delta) error {
	return w.Erased.Apply(ctx, &watchedHost{Host: h, killer: w.killer}, o, d)
}

// watchedHost tells the same calls from observing ones as host.Counted does.
type watchedHost struct {
	host.Host
	killer *killer
}

func (w *watchedHost) Run(ctx context.Context, c host.Command) (res host.Result, err error) {
	if !c.Mutates {
		return w.Host.Run(ctx, c)
	}
	err = w.killer.do("run "+host.Quote(c.Argv), func() (err error) { res, err = w.Host.Run(ctx, c); return err })
	return res, err
}

func (w *watchedHost) WriteFile(path string, data []byte, mode fs.FileMode, owner host.Owner) error {
	return w.killer.do("write "+path, func() error { return w.Host.WriteFile(path, data, mode, owner) })
}

func (w *watchedHost) Fetch(ctx context.Context, sha256, path string, mode fs.FileMode, owner host.Owner) error {
	return w.killer.do("fetch "+path, func() error { return w.Host.Fetch(ctx, sha256, path, mode, owner) })
}

func (w *watchedHost) MkdirAll(path string, mode fs.FileMode, owner host.Owner) error {
	if m, err := w.Lstat(path); err == nil && m.Mode.IsDir() {
		return nil
	}
	return w.killer.do("mkdir "+path, func() error { return w.Host.MkdirAll(path, mode, owner) })
}

func (w *watchedHost) Chmod(path string, mode fs.FileMode) error {
	return w.killer.do("chmod "+path, func() error { return w.Host.Chmod(path, mode) })
}

func (w *watchedHost) Chown(path string, owner host.Owner) error {
	return w.killer.do("chown "+path, func() error { return w.Host.Chown(path, owner) })
}

func (w *watchedHost) Rename(oldpath, newpath string) error {
	return w.killer.do("rename "+oldpath+" "+newpath, func() error { return w.Host.Rename(oldpath, newpath) })
}

func (w *watchedHost) Symlink(target, path string) error {
	return w.killer.do("symlink "+path, func() error { return w.Host.Symlink(target, path) })
}

func (w *watchedHost) Remove(path string) error {
	if _, err := w.Lstat(path); err != nil {
		return nil
	}
	return w.killer.do("remove "+path, func() error { return w.Host.Remove(path) })
}

func (w *watchedHost) RemoveAll(path string) error {
	if _, err := w.Lstat(path); err != nil {
		return nil
	}
	return w.killer.do("remove all of "+path, func() error { return w.Host.RemoveAll(path) })
}
