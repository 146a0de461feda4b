package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Holder is who holds a lock, as it wrote into the lock's file.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
	Program string    `json:"program,omitempty"` // which phoenix it is, where that matters
}

// LockedError is a lock that another process holds.
type LockedError struct {
	Path   string
	Holder Holder // zero: it did not say
	Err    error  // why it is not waited for any longer; nil while it is
}

// Error names the holder, as a line for people.
func (e *LockedError) Error() string {
	who := "another phoenix"
	if h := e.Holder; h.PID != 0 {
		who = fmt.Sprintf("%s (pid %d, since %s)", h.Command, h.PID, h.Since.Local().Format(time.TimeOnly))
	}
	if e.Err == nil {
		return who + " holds " + e.Path
	}
	return who + " holds " + e.Path + ": " + e.Err.Error()
}

// Unwrap gives why it is not waited for any longer.
func (e *LockedError) Unwrap() error { return e.Err }

// FileLock is a lock that holds between processes: flock(2) on Path, whose directory is made if need be. The kernel
// lets go of it when its holder dies: what the file says is for people only, and may be of one that is long gone.
type FileLock struct {
	Path   string
	Shared bool // many hold it at once, and none while one holds it that is not shared
	// Waiting, where there is one, hears who holds the lock once it has been waited for as long as After.
	Waiting func(*LockedError)
	After   time.Duration
	Program string // told to others
}

// Held tells whether somebody holds the lock, and who. It makes nothing and waits for nobody.
func (l FileLock) Held() (Holder, bool) {
	f, err := os.Open(l.Path)
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return Holder{}, false // what was taken goes with the file
	}
	return holder(f), true
}

// Lock waits for the lock until ctx ends; what it returns unlocks.
func (l FileLock) Lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(l.Path), 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.Path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := l.wait(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if l.Shared {
		return func() { f.Close() }, nil
	}
	l.sign(f)
	return func() {
		_ = f.Truncate(0) // whoever comes next says so
		f.Close()
	}, nil
}

func (l FileLock) wait(ctx context.Context, f *os.File) error {
	how, began, told := syscall.LOCK_EX, time.Now(), l.Waiting == nil
	if l.Shared {
		how = syscall.LOCK_SH
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", l.Path, err)
		}
		if !told && time.Since(began) >= l.After {
			told = true
			l.Waiting(&LockedError{Path: l.Path, Holder: holder(f)})
		}
		if sleep(ctx, wait) != nil {
			return &LockedError{Path: l.Path, Holder: holder(f), Err: Ended(ctx)}
		}
	}
}

// sign tells others who holds the lock. They can do without.
func (l FileLock) sign(f *os.File) {
	b, err := json.Marshal(Holder{PID: os.Getpid(), Command: host.Quote(os.Args), Since: time.Now(),
		Program: l.Program})
	if err == nil && f.Truncate(0) == nil {
		_, _ = f.WriteAt(append(b, '\n'), 0)
	}
}

// holder is zero where nobody signed, or did so only half.
func holder(f *os.File) (h Holder) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<10))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return Holder{}
	}
	return h
}
