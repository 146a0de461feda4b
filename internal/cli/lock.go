package cli

import (
	"context"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
)

// jointLock lets the changes of this process go on side by side while other processes are kept out: the first takes the
// file's lock, the last one lets go of it.
type jointLock struct {
	take   func(context.Context) (func(), error)
	mu     sync.Mutex // guards what follows; held while the file's lock is waited for
	users  int
	unlock func()
}

// newJointLock makes one; waiting, where there is one, hears for whom it is waited.
func newJointLock(path string, after time.Duration, waiting func(*engine.LockedError)) *jointLock {
	return &jointLock{take: engine.FileLock{Path: path, After: after, Waiting: waiting}.Lock}
}

func (l *jointLock) lock(ctx context.Context) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 {
		unlock, err := l.take(ctx)
		if err != nil {
			return nil, err
		}
		l.unlock = unlock
	}
	l.users++
	return sync.OnceFunc(l.release), nil
}

func (l *jointLock) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users--; l.users == 0 {
		l.unlock()
	}
}
