package host

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"

	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
)

// ErrInjected is the error of every fault that Faulty makes.
var ErrInjected = errors.New("injected fault")

// Faulty passes calls on until the k-th change, counted from 1; that one and all that follow fail, as if the process
// had been killed there. With Applied the k-th change takes effect before it is reported as failed. For tests.
type Faulty struct {
	Host
	At      int
	Applied bool
	seen    atomic.Int64
}

// Seen is how many changes were asked for.
func (f *Faulty) Seen() int { return int(f.seen.Load()) }

func (f *Faulty) do(change func() error) error {
	n := int(f.seen.Add(1))
	if f.At == 0 || n < f.At {
		return change()
	}
	if n == f.At && f.Applied {
		return errors.Join(ErrInjected, change())
	}
	return ErrInjected
}

// Run fails as the type says where the command changes something.
func (f *Faulty) Run(ctx context.Context, c Command) (Result, error) {
	if !c.Mutates {
		return f.Host.Run(ctx, c)
	}
	var res Result
	err := f.do(func() (err error) { res, err = f.Host.Run(ctx, c); return err })
	return res, err
}

// WriteFile fails as the type says.
func (f *Faulty) WriteFile(path string, data []byte, mode fs.FileMode, owner Owner) error {
	return f.do(func() error { return f.Host.WriteFile(path, data, mode, owner) })
}

// Fetch fails as the type says.
func (f *Faulty) Fetch(ctx context.Context, sha256, path string, mode fs.FileMode, owner Owner) error {
	return f.do(func() error { return f.Host.Fetch(ctx, sha256, path, mode, owner) })
}

// MkdirAll fails as the type says.
func (f *Faulty) MkdirAll(path string, mode fs.FileMode, owner Owner) error {
	if m, err := f.Lstat(path); err == nil && m.Mode.IsDir() {
		return nil
	}
	return f.do(func() error { return f.Host.MkdirAll(path, mode, owner) })
}

// Chmod fails as the type says.
func (f *Faulty) Chmod(path string, mode fs.FileMode) error {
	return f.do(func() error { return f.Host.Chmod(path, mode) })
}

// Chown fails as the type says.
func (f *Faulty) Chown(path string, owner Owner) error {
	return f.do(func() error { return f.Host.Chown(path, owner) })
}

// Setxattr fails as the type says.
func (f *Faulty) Setxattr(path, name, value string) error {
	return f.do(func() error { return f.Host.Setxattr(path, name, value) })
}

// ShiftIDs fails as the type says.
func (f *Faulty) ShiftIDs(ctx context.Context, path string, m idshift.Move) error {
	return f.do(func() error { return f.Host.ShiftIDs(ctx, path, m) })
}

// Rename fails as the type says.
func (f *Faulty) Rename(oldpath, newpath string) error {
	return f.do(func() error { return f.Host.Rename(oldpath, newpath) })
}

// Symlink fails as the type says.
func (f *Faulty) Symlink(target, path string) error {
	return f.do(func() error { return f.Host.Symlink(target, path) })
}

// Remove fails as the type says.
func (f *Faulty) Remove(path string) error {
	return f.do(func() error { return f.Host.Remove(path) })
}

// RemoveAll fails as the type says.
func (f *Faulty) RemoveAll(path string) error {
	return f.do(func() error { return f.Host.RemoveAll(path) })
}
