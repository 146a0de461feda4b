package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// watched is a driver whose calls go by the saboteur.
type watched struct {
	provider.Erased
	saboteur *saboteur
}

func (w watched) Observe(ctx context.Context, h host.Host, o object.Object) (provider.Observation, error) {
	return w.Erased.Observe(ctx, &watchedHost{Host: h, saboteur: w.saboteur}, o)
}

func (w watched) Apply(ctx context.Context, h host.Host, o object.Object, d plan.Delta) error {
	return w.Erased.Apply(ctx, &watchedHost{Host: h, saboteur: w.saboteur}, o, d)
}

func (w watched) Stop(ctx context.Context, h host.Host, o object.Object) error {
	return w.Erased.Stop(ctx, &watchedHost{Host: h, saboteur: w.saboteur}, o)
}

// watchedHost tells the same calls from observing ones as host.Counted does.
type watchedHost struct {
	host.Host
	saboteur *saboteur
}

// Run spoils commands that change and, where those are chosen, also those that only look.
func (w *watchedHost) Run(ctx context.Context, c host.Command) (res host.Result, err error) {
	what := "run " + host.Quote(c.Argv)
	if !c.Mutates {
		if !w.saboteur.looks {
			return w.Host.Run(ctx, c)
		}
		what = "look " + host.Quote(c.Argv)
	}
	err = w.saboteur.do(what,
		func() (err error) { res, err = w.Host.Run(ctx, c); return err },
		func() (err error) { res, err = w.spoiled(ctx, c); return err })
	return res, err
}

// hangLimit stands for the minutes that a command has in truth.
const hangLimit = 150 * time.Millisecond

// spoiled runs a program that fails, hangs or says nonsense, under the name of the one it stands for.
func (w *watchedHost) spoiled(ctx context.Context, c host.Command) (host.Result, error) {
	argv := c.Argv
	c.Argv = append([]string{filepath.Join(w.saboteur.base, "bin", w.saboteur.fault)}, argv...)
	if w.saboteur.fault == "hang" {
		c.Limit = hangLimit
	}
	res, err := w.Host.Run(ctx, c)
	var run *host.RunError
	if errors.As(err, &run) {
		run.Argv = argv
	}
	return res, err
}

// file is a call that a full disk fails before its effect and a broken one after it.
func (w *watchedHost) file(op, path, more string, call func() error) error {
	cause := syscall.ENOSPC
	if w.saboteur.after {
		cause = syscall.EIO
	}
	return w.saboteur.do(op+" "+path+more, call, func() error { return &fs.PathError{Op: op, Path: path, Err: cause} })
}

func (w *watchedHost) WriteFile(path string, data []byte, mode fs.FileMode, owner host.Owner) error {
	return w.file("write", path, "", func() error { return w.Host.WriteFile(path, data, mode, owner) })
}

func (w *watchedHost) Fetch(ctx context.Context, sha256, path string, mode fs.FileMode, owner host.Owner) error {
	return w.file("fetch", path, "", func() error { return w.Host.Fetch(ctx, sha256, path, mode, owner) })
}

func (w *watchedHost) MkdirAll(path string, mode fs.FileMode, owner host.Owner) error {
	if m, err := w.Lstat(path); err == nil && m.Mode.IsDir() {
		return nil
	}
	return w.file("mkdir", path, "", func() error { return w.Host.MkdirAll(path, mode, owner) })
}

func (w *watchedHost) Chmod(path string, mode fs.FileMode) error {
	return w.file("chmod", path, "", func() error { return w.Host.Chmod(path, mode) })
}

func (w *watchedHost) Chown(path string, owner host.Owner) error {
	return w.file("chown", path, "", func() error { return w.Host.Chown(path, owner) })
}

func (w *watchedHost) Rename(oldpath, newpath string) error {
	return w.file("rename", oldpath, " "+newpath, func() error { return w.Host.Rename(oldpath, newpath) })
}

func (w *watchedHost) Setxattr(path, name, value string) error {
	return w.file("setxattr", path, " "+name, func() error { return w.Host.Setxattr(path, name, value) })
}

func (w *watchedHost) ShiftIDs(ctx context.Context, path string, m idshift.Move) error {
	return w.file("move the ids in", path, "", func() error { return w.Host.ShiftIDs(ctx, path, m) })
}

func (w *watchedHost) Symlink(target, path string) error {
	return w.file("symlink", path, "", func() error { return w.Host.Symlink(target, path) })
}

func (w *watchedHost) Remove(path string) error {
	if _, err := w.Lstat(path); err != nil {
		return nil
	}
	return w.file("remove", path, "", func() error { return w.Host.Remove(path) })
}

func (w *watchedHost) RemoveAll(path string) error {
	if _, err := w.Lstat(path); err != nil {
		return nil
	}
	return w.file("remove all of", path, "", func() error { return w.Host.RemoveAll(path) })
}
