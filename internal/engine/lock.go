package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// FileLock gives a lock for NewLocal that holds between processes: flock(2) on path, whose folder is made if need be. The
// kernel lets go of it when its holder dies.
func FileLock(path string) func(context.Context) (func(), error) {
	return lock(path, syscall.LOCK_EX)
}

// SharedLock is a lock that many hold at once, and none while a FileLock on path is held.
func SharedLock(path string) func(context.Context) (func(), error) {
	return lock(path, syscall.LOCK_SH)
}

func lock(path string, how int) func(context.Context) (func(), error) {
	return func(ctx context.Context) (func(), error) {
		if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
			err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
			if err == nil {
				return func() { f.Close() }, nil
			}
			if !errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
			}
			if err := sleep(ctx, wait); err != nil {
				return nil, errors.Join(fmt.Errorf("another phoenix holds %s: %w", path, err), f.Close())
			}
		}
	}
}
