package e2e

import (
	"runtime"
	"testing"
)

// slots are how many tests compute at a time: one for each processor, and two at least. A test that does little more
// than wait is parallel without one.
var slots = make(chan struct{}, max(2, runtime.NumCPU()))

// beside lets t run beside others once it has a slot, which the end of the test gives back.
func beside(t *testing.T) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}
