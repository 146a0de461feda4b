package engine

import (
	"slices"
	"testing"
	"time"
)

// One that hangs holds up none of the others, nor those that they bring.
func TestStream(t *testing.T) {
	hang := make(chan struct{})
	queue := []int{0, 1, 2}
	next := func() []int { out := queue; queue = nil; return out }
	do := func(n int) int {
		if n == 0 {
			<-hang
		}
		return n * 10
	}
	var got []int
	Stream(time.Hour, next, do, func(n, r int) {
		got = append(got, r)
		switch n {
		case 1, 2:
			queue = append(queue, n+2)
		case 4:
			close(hang)
		}
	})
	if slices.Sort(got); !slices.Equal(got, []int{0, 10, 20, 30, 40}) {
		t.Errorf("done: %v", got)
	}
}

// What is not ready at first is asked for again though nothing comes back.
func TestStreamAsksAgain(t *testing.T) {
	hang, asked := make(chan struct{}), 0
	next := func() []int {
		if asked++; asked == 1 || asked == 3 {
			return []int{asked}
		}
		return nil
	}
	Stream(time.Millisecond, next, func(n int) int {
		if n == 1 {
			<-hang
		}
		return n
	}, func(n, _ int) {
		if n == 3 {
			close(hang)
		}
	})
	if asked < 3 {
		t.Errorf("asked %d times", asked)
	}
}

func TestWithin(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	if r, ok := Within(time.Minute, func() int { return 7 }); r != 7 || !ok {
		t.Errorf("%d %t", r, ok)
	}
	if r, ok := Within(time.Millisecond, func() int { <-hang; return 7 }); r != 0 || ok {
		t.Errorf("what hangs: %d %t", r, ok)
	}
}
