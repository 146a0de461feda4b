package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

func testCheck(i int, after, causes []Key) Check {
	return Check{ID: "PHX-T-001", Object: object.NewAddress("t", fmt.Sprint(i)), After: after, Causes: causes}
}

func testKey(i int) Key { return testCheck(i, nil, nil).Key() }

// TestBoardReportsEachOnce: whatever the edges, circles and strangers included, and in whatever order results come
// back, the board ends, runs no check twice, and reports every check once in the list's order.
func TestBoardReportsEachOnce(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		n := 1 + r.IntN(12)
		checks := make([]Check, n)
		for i := range checks {
			checks[i] = testCheck(i, someKeys(r, n), someKeys(r, n))
		}
		runBoard(t, r, NewBoard(checks), n)
	}
}

func someKeys(r *rand.Rand, n int) []Key {
	var keys []Key
	for range r.IntN(3) {
		keys = append(keys, testKey(r.IntN(n+2))) // n and n+1 are not in the list
	}
	return keys
}

func runBoard(t *testing.T, r *rand.Rand, b *Board, n int) {
	t.Helper()
	var flying []Check
	ran := map[Key]int{}
	for steps := 0; !b.Finished(); steps++ {
		if r.IntN(5) == 0 {
			b.Hurry()
		}
		for _, c := range b.Ready() {
			ran[c.Key()]++
			flying = append(flying, c)
		}
		if steps > 3*n || len(flying) == 0 && !b.Finished() {
			t.Fatalf("stuck after %d steps", steps)
		}
		if len(flying) > 0 {
			k := r.IntN(len(flying))
			c := flying[k]
			flying = slices.Delete(flying, k, k+1)
			b.Done(c, Result{Status: []Status{Pass, Fail, Skip}[r.IntN(3)]})
			b.Done(c, Result{Status: Fail}) // a second word is not heard
		}
	}
	rep := b.Report()
	if len(rep.Checks) != n {
		t.Fatalf("%d results of %d", len(rep.Checks), n)
	}
	for i, res := range rep.Checks {
		if res.Object != testCheck(i, nil, nil).Object || ran[testKey(i)] > 1 {
			t.Fatalf("result %d is %+v, run %d times", i, res, ran[testKey(i)])
		}
	}
}

// TestBoardBlocks: a failure stops what needs it and takes the blame for what it is likely to cause, over several
// steps.
func TestBoardBlocks(t *testing.T) {
	checks := []Check{
		testCheck(0, nil, nil),
		testCheck(1, []Key{testKey(0)}, nil),
		testCheck(2, []Key{testKey(1)}, nil),
		testCheck(3, nil, []Key{testKey(2)}),
		testCheck(4, nil, []Key{testKey(0)}),
		testCheck(5, nil, []Key{testKey(6)}),
		testCheck(6, nil, nil),
	}
	var ran []object.Address
	fails := map[object.Address]Status{"t/0": Fail, "t/3": Fail, "t/5": Fail, "t/6": Skip}
	rep := Sequential(t.Context(), checks, func(_ context.Context, c Check) Result {
		ran = append(ran, c.Object)
		s, ok := fails[c.Object]
		if !ok {
			s = Pass
		}
		return c.result(s, "said "+string(c.Object), "seen", "")
	})
	if slices.Contains(ran, "t/1") || slices.Contains(ran, "t/2") || rep.Healthy {
		t.Errorf("ran %v, healthy %v", ran, rep.Healthy)
	}
	want := []Status{Fail, Skip, Skip, Skip, Pass, Fail, Skip}
	for i, r := range rep.Checks {
		if r.Status != want[i] {
			t.Errorf("check %d: %+v", i, r)
		}
	}
	for _, i := range []int{1, 2, 3} {
		if got := rep.Checks[i].Summary; got != "blocked by t/0 (PHX-T-001)" {
			t.Errorf("check %d: %q", i, got)
		}
	}
	if got := rep.Checks[3].Evidence; got != "said t/3: seen" {
		t.Errorf("own evidence is lost: %q", got)
	}
}

// TestBoardHurries: what hangs does not hold up what can be asked all the same, and takes the blame when it comes back.
func TestBoardHurries(t *testing.T) {
	b := NewBoard([]Check{testCheck(0, nil, nil), testCheck(1, nil, []Key{testKey(0)}),
		testCheck(2, []Key{testKey(0)}, nil), testCheck(3, nil, []Key{testKey(0)})})
	if ready := b.Ready(); len(ready) != 1 {
		t.Fatalf("at first: %v", ready)
	}
	b.Hurry()
	ready := b.Ready()
	if len(ready) != 2 || ready[0].Object != "t/1" || ready[1].Object != "t/3" {
		t.Fatalf("in a hurry: %v", ready)
	}
	b.Done(ready[0], Result{Status: Fail, Summary: "no"})
	b.Done(ready[1], Result{Status: Pass})
	if b.Finished() || len(b.Ready()) > 0 {
		t.Error("who is to blame is not known yet")
	}
	b.Done(testCheck(0, nil, nil), Result{Status: Fail, Summary: "hung"})
	b.Ready()
	var got []string
	for _, r := range b.Report().Checks {
		got = append(got, strings.TrimSpace(string(r.Status)+" "+r.Evidence))
	}
	if want := []string{"fail", "skip no:", "skip hung", "pass"}; !b.Finished() || !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBoardHealthy(t *testing.T) {
	pass := func(_ context.Context, c Check) Result { return c.pass("well", "") }
	rep := Sequential(t.Context(), []Check{testCheck(0, nil, nil), testCheck(1, []Key{testKey(0)}, nil)}, pass)
	if !rep.Healthy || len(rep.Checks) != 2 {
		t.Errorf("got %+v", rep)
	}
	if rep := Sequential(t.Context(), nil, pass); !rep.Healthy || rep.Checks == nil {
		t.Errorf("no checks: %+v", rep)
	}
	skip := func(_ context.Context, c Check) Result { return c.unasked("no", "") }
	if rep := Sequential(t.Context(), []Check{testCheck(0, nil, nil)}, skip); rep.Healthy {
		t.Error("what was not asked is not known to be well")
	}
}
