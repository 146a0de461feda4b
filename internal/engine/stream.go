package engine

import (
	"sync"
	"time"
)

// Stream does what next gives, each at once, and tells done of each result; both are called by the caller's goroutine.
// next is asked again after each result, and every now and then while nothing comes back. It returns when nothing is
// under way and next has nothing.
func Stream[T, R any](every time.Duration, next func() []T, do func(T) R, done func(T, R)) {
	type result struct {
		of  T
		has R
	}
	results := make(chan result)
	var group sync.WaitGroup
	defer group.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for flying := 0; ; {
		for _, t := range next() {
			flying++
			group.Go(func() { results <- result{t, do(t)} })
		}
		if flying == 0 {
			return
		}
		select {
		case r := <-results:
			flying--
			done(r.of, r.has)
		case <-tick.C:
		}
	}
}

// Within gives what do gives, unless that takes longer than the limit: then do is left to itself, and what it gives is
// lost. It is for what only looks.
func Within[R any](limit time.Duration, do func() R) (R, bool) {
	answer := make(chan R, 1)
	go func() { answer <- do() }()
	end := time.NewTimer(limit)
	defer end.Stop()
	select {
	case r := <-answer:
		return r, true
	case <-end.C:
		var none R
		return none, false
	}
}
