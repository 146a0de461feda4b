package health

import (
	"context"
	"fmt"
)

// Board keeps track of which checks may run and folds their results. It is for one goroutine; the checks that Ready
// gives may be run at once by others. Every check of the list is reported exactly once, in the list's order, whatever
// its edges say.
type Board struct {
	checks  []Check
	index   map[Key]int
	waiting []int // how many edges of each check are still open
	needing []int // those among them without which it cannot be asked
	behind  [][]follower
	state   []state
	results []Result
	cause   []int // the failed check behind each result; -1: none
	ready   []int
	open    int // not reported yet
	flying  int // given out by Ready, not Done
	hurry   bool
}

// follower is a check that waits for another; needed: it cannot be asked without.
type follower struct {
	check  int
	needed bool
}

type state uint8

const (
	pending state = iota
	queued
	out
	answered // by itself; what is likely to be the cause is not reported yet
	reported
)

// NewBoard takes checks with different keys; of several with the same key the first counts. Edges to checks that are
// not in the list are taken as satisfied, so that any part of a system can be checked alone.
func NewBoard(checks []Check) *Board {
	b := &Board{index: make(map[Key]int, len(checks))}
	for _, c := range checks {
		if _, twice := b.index[c.Key()]; !twice {
			b.index[c.Key()] = len(b.checks)
			b.checks = append(b.checks, c)
		}
	}
	n := len(b.checks)
	b.open, b.waiting, b.needing, b.behind = n, make([]int, n), make([]int, n), make([][]follower, n)
	b.state, b.results, b.cause = make([]state, n), make([]Result, n), make([]int, n)
	for i := range b.checks {
		b.cause[i] = -1
		for before, needed := range b.edges(i) {
			b.waiting[i]++
			if needed {
				b.needing[i]++
			}
			b.behind[before] = append(b.behind[before], follower{i, needed})
		}
	}
	for i := range b.checks {
		b.release(i)
	}
	return b
}

// edges are the checks that i waits for, each once, and whether it cannot be asked without.
func (b *Board) edges(i int) map[int]bool {
	set := map[int]bool{}
	for _, k := range b.checks[i].Causes {
		if j, ok := b.index[k]; ok {
			set[j] = false
		}
	}
	for _, k := range b.checks[i].After {
		if j, ok := b.index[k]; ok {
			set[j] = true
		}
	}
	return set
}

// Hurry lets every check run from now on that can be asked at all, without waiting for those that are likely to be the
// cause of its failure: one that hangs must not hold up the others. Who is to blame is said all the same.
func (b *Board) Hurry() {
	if b.hurry {
		return
	}
	b.hurry = true
	for i := range b.checks {
		b.release(i)
	}
}

func (b *Board) release(i int) {
	free := b.waiting[i] == 0 || b.hurry && b.needing[i] == 0
	if free && b.state[i] == pending {
		b.state[i] = queued
		b.ready = append(b.ready, i)
	}
}

// Ready gives the checks that may run now, each once, blocked ones never. Empty while others are under way, and at the
// end.
func (b *Board) Ready() []Check {
	var run []Check
	for {
		for len(b.ready) > 0 {
			i := b.ready[0]
			b.ready = b.ready[1:]
			if j := b.failed(b.checks[i].After); j >= 0 {
				b.report(i, b.blocked(i, j, nil), j)
				continue
			}
			b.state[i] = out
			b.flying++
			run = append(run, b.checks[i])
		}
		if len(run) > 0 || b.flying > 0 || b.open == 0 {
			return run
		}
		b.cut()
	}
}

// cut reports one check that waits in a circle, so that the others go on.
func (b *Board) cut() {
	for i, s := range b.state {
		if s == answered {
			b.settle(i)
			return
		}
		if s == pending {
			b.report(i, b.checks[i].unasked("not asked: it waits for itself", "the checks' order has a circle"), -1)
			return
		}
	}
}

// Done takes the result of a check that Ready gave. Results of other checks, or second ones, are ignored.
func (b *Board) Done(c Check, r Result) {
	i, ok := b.index[c.Key()]
	if !ok || b.state[i] != out {
		return
	}
	b.flying--
	r.ID, r.Object = b.checks[i].ID, b.checks[i].Object
	b.results[i], b.state[i] = r, answered
	if b.waiting[i] == 0 || r.Status == Pass {
		b.settle(i)
	}
}

// settle reports a check that was answered, as it stands or with who is to blame.
func (b *Board) settle(i int) {
	r, cause := b.results[i], -1
	if r.Status == Fail {
		cause = i
	}
	if j := b.failed(b.checks[i].Causes); j >= 0 && r.Status != Pass {
		r, cause = b.blocked(i, j, &r), j
	}
	b.report(i, r, cause)
}

// failed is the root of the first of the keys that failed or is blocked itself; -1: none.
func (b *Board) failed(keys []Key) int {
	for _, k := range keys {
		if i, ok := b.index[k]; ok && b.cause[i] >= 0 {
			return b.cause[i]
		}
	}
	return -1
}

// blocked is the result of check i because of check j. own is what i itself found, if it ran.
func (b *Board) blocked(i, j int, own *Result) Result {
	root := b.results[j]
	evidence := root.Summary
	if own != nil {
		evidence = own.Summary + ": " + own.Evidence
	}
	return b.checks[i].result(Skip, fmt.Sprintf("blocked by %s (%s)", root.Object, root.ID), evidence, root.Fix)
}

func (b *Board) report(i int, r Result, cause int) {
	b.state[i], b.results[i], b.cause[i] = reported, r, cause
	b.open--
	for _, f := range b.behind[i] {
		j := f.check
		b.waiting[j]--
		if f.needed {
			b.needing[j]--
		}
		if b.waiting[j] == 0 && b.state[j] == answered {
			b.settle(j)
		}
		b.release(j)
	}
}

// Finished tells that every check is reported. Call Ready until it is.
func (b *Board) Finished() bool { return b.open == 0 }

// Report is what was found. It is whole once the board is Finished; until then checks that are not reported are left
// out.
func (b *Board) Report() Report {
	rep := Report{Healthy: b.open == 0, Checks: make([]Result, 0, len(b.checks))}
	for i, r := range b.results {
		if b.state[i] != reported {
			continue
		}
		rep.Healthy = rep.Healthy && r.Status == Pass
		rep.Checks = append(rep.Checks, r)
	}
	return rep
}

// Sequential runs the checks one after the other.
func Sequential(ctx context.Context, checks []Check, run func(context.Context, Check) Result) Report {
	b := NewBoard(checks)
	for ready := b.Ready(); len(ready) > 0; ready = b.Ready() {
		for _, c := range ready {
			b.Done(c, run(ctx, c))
		}
	}
	return b.Report()
}
