package e2e

import (
	"runtime"
	"sync"
	"testing"
)

// slots are how many tests compute at a time: one for each processor, and two at least.
var slots = make(chan struct{}, max(2, runtime.NumCPU()))

// beside lets t run beside others once it has a slot, which the end of the test gives back. A test that does no more
// than wait from somewhere on gives it back there, by rests, so that what waits runs beside what computes.
func beside(t *testing.T) (rests func()) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	rests = sync.OnceFunc(func() { <-slots })
	t.Cleanup(rests)
	return rests
}
