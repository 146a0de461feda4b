package host

import (
	"context"
	"io/fs"
	"sync/atomic"

	"github.com/phoenix-hypervisor/phoenix/internal/idshift"
)

// Counted passes everything on to another Host and counts what changes the system. Make it with NewCounted.
type Counted struct {
	Host
	mutations atomic.Int64
	watch     func(what string)
}

// NewCounted wraps h. watch, where it is not nil, hears of every change before it is made and may be called at once.
func NewCounted(h Host, watch func(what string)) *Counted { return &Counted{Host: h, watch: watch} }

// Mutations is how many changing calls were made so far.
func (c *Counted) Mutations() int { return int(c.mutations.Load()) }

func (c *Counted) count(what string) {
	c.mutations.Add(1)
	if c.watch != nil {
		c.watch(what)
	}
}

// Run counts commands that change.
func (c *Counted) Run(ctx context.Context, cmd Command) (Result, error) {
	if cmd.Mutates {
		c.count("run " + Quote(cmd.Argv))
	}
	return c.Host.Run(ctx, cmd)
}

// WriteFile counts.
func (c *Counted) WriteFile(path string, data []byte, mode fs.FileMode, owner Owner) error {
	c.count("write " + path)
	return c.Host.WriteFile(path, data, mode, owner)
}

// Fetch counts.
func (c *Counted) Fetch(ctx context.Context, sha256, path string, mode fs.FileMode, owner Owner) error {
	c.count("fetch " + path)
	return c.Host.Fetch(ctx, sha256, path, mode, owner)
}

// MkdirAll counts only where something is missing.
func (c *Counted) MkdirAll(path string, mode fs.FileMode, owner Owner) error {
	if m, err := c.Lstat(path); err == nil && m.Mode.IsDir() {
		return nil
	}
	c.count("mkdir " + path)
	return c.Host.MkdirAll(path, mode, owner)
}

// Chmod counts.
func (c *Counted) Chmod(path string, mode fs.FileMode) error {
	c.count("chmod " + path)
	return c.Host.Chmod(path, mode)
}

// Chown counts.
func (c *Counted) Chown(path string, owner Owner) error {
	c.count("chown " + path)
	return c.Host.Chown(path, owner)
}

// Setxattr counts.
func (c *Counted) Setxattr(path, name, value string) error {
	c.count("setxattr " + name + " " + path)
	return c.Host.Setxattr(path, name, value)
}

// ShiftIDs counts as one.
func (c *Counted) ShiftIDs(ctx context.Context, path string, m idshift.Move) error {
	c.count("move the ids in " + path + " to " + m.To.String())
	return c.Host.ShiftIDs(ctx, path, m)
}

// Rename counts.
func (c *Counted) Rename(oldpath, newpath string) error {
	c.count("rename " + oldpath + " " + newpath)
	return c.Host.Rename(oldpath, newpath)
}

// Symlink counts.
func (c *Counted) Symlink(target, path string) error {
	c.count("symlink " + path)
	return c.Host.Symlink(target, path)
}

// Remove counts only what exists.
func (c *Counted) Remove(path string) error {
	if _, err := c.Lstat(path); err != nil {
		return nil
	}
	c.count("remove " + path)
	return c.Host.Remove(path)
}

// RemoveAll counts only what exists.
func (c *Counted) RemoveAll(path string) error {
	if _, err := c.Lstat(path); err != nil {
		return nil
	}
	c.count("remove all of " + path)
	return c.Host.RemoveAll(path)
}
