package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// things is a driver of values in memory: an object is true when its value stands there.
type things struct {
	mu     sync.Mutex
	values map[object.Address]string
	order  []object.Address
	fail   map[object.Address]func(attempt int) error
	tries  map[object.Address]int
	gate   func(object.Address)
}

type thing struct {
	Value   string `json:"value"`
	Replace bool   `json:"replace,omitempty"`
}

func newThings() *things {
	return &things{values: map[object.Address]string{}, fail: map[object.Address]func(int) error{},
		tries: map[object.Address]int{}}
}

func (*things) Decode(raw json.RawMessage) (thing, diag.List) { return provider.Decode[thing](raw) }

func (m *things) Observe(_ context.Context, _ host.Host, a object.Address, _ thing) (*thing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[a]
	if !ok {
		return nil, nil
	}
	return &thing{Value: v}, nil
}

func (*things) Diff(want thing, have *thing) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "absent"}
	}
	var d plan.Delta
	d.Compare("value", have.Value, want.Value)
	if !d.Empty() && want.Replace {
		d.Action = plan.Replace
	}
	return d
}

func (m *things) Apply(_ context.Context, h host.Host, a object.Address, want thing, _ plan.Delta) error {
	if m.gate != nil {
		m.gate(a)
	}
	if err := h.Chmod("/nowhere", 0); err != nil { // one counted change
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries[a]++
	if f := m.fail[a]; f != nil {
		if err := f(m.tries[a]); err != nil {
			return err
		}
	}
	m.values[a] = want.Value
	m.order = append(m.order, a)
	return nil
}

// still is a host on which changes do nothing.
type still struct{ host.Host }

func (still) Chmod(string, fs.FileMode) error { return nil }

func engineOf(m *things) *Engine {
	return &Engine{
		Local:    NewLocal(Drivers{"memory/thing": provider.New(m)}, still{&host.Local{}}, nil, nil, nil),
		Patience: 5 * time.Second,
	}
}

func obj(name, value string, after ...object.Address) object.Object {
	b, _ := json.Marshal(thing{Value: value})
	return object.Object{Address: object.NewAddress("thing", name), Provider: "memory", Spec: b, After: after}
}

func TestApplyOrderAndSecondRun(t *testing.T) {
	m := newThings()
	objects := []object.Object{obj("c", "3", "thing/b"), obj("b", "2", "thing/a"), obj("a", "1"), obj("z", "9")}
	e := engineOf(m)
	res, err := e.Apply(context.Background(), objects)
	if err != nil || res.Err() != nil {
		t.Fatal(err, res.Err())
	}
	if res.Plan.Summary[plan.Create] != 4 || res.Mutations != 4 {
		t.Errorf("summary %v, mutations %d; want 4 and 4", res.Plan.Summary, res.Mutations)
	}
	a, b, c := slices.Index(m.order, "thing/a"), slices.Index(m.order, "thing/b"), slices.Index(m.order, "thing/c")
	if a > b || b > c {
		t.Errorf("made in the order %v", m.order)
	}
	res, _ = e.Apply(context.Background(), objects)
	if len(res.Plan.Changes) != 0 || res.Mutations != 0 {
		t.Errorf("second run: %d changes, %d mutations; want none", len(res.Plan.Changes), res.Mutations)
	}
}

func TestIndependentObjectsGoAtOnce(t *testing.T) {
	m := newThings()
	var meet sync.WaitGroup
	meet.Add(2)
	m.gate = func(object.Address) { meet.Done(); meet.Wait() } // neither ends before both have begun
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	finished := make(chan Result, 1)
	go func() {
		res, _ := engineOf(m).Apply(ctx, []object.Object{obj("a", "1"), obj("b", "2")})
		finished <- res
	}()
	select {
	case res := <-finished:
		if res.Err() != nil {
			t.Fatal(res.Err())
		}
	case <-ctx.Done():
		t.Fatal("two independent objects were not done at once")
	}
}

func TestFailureBlocksOnlyDependents(t *testing.T) {
	m := newThings()
	m.fail["thing/a"] = func(int) error { return provider.PermanentHint(errors.New("no more room"), "make room") }
	res, err := engineOf(m).Apply(context.Background(),
		[]object.Object{obj("a", "1"), obj("b", "2", "thing/a"), obj("c", "3", "thing/b"), obj("z", "9")})
	if err != nil {
		t.Fatal(err)
	}
	if m.values["thing/z"] != "9" || len(m.values) != 1 {
		t.Errorf("made: %v, want only z", m.values)
	}
	if len(res.Failures) != 3 || res.Failures[0].Address != "thing/a" || res.Failures[0].Hint != "make room" {
		t.Fatalf("failures: %+v", res.Failures)
	}
	for _, f := range res.Failures[1:] {
		if f.BlockedBy != "thing/a" || f.Message != "blocked by thing/a: no more room" {
			t.Errorf("%s is blocked by %q, want thing/a: %s", f.Address, f.BlockedBy, f.Message)
		}
	}
	if got := res.Err().Error(); got != "thing/a: no more room" {
		t.Errorf("error %q", got)
	}
}

func TestPassingFailureIsTriedAgain(t *testing.T) {
	m := newThings()
	m.fail["thing/a"] = func(attempt int) error {
		if attempt < 3 {
			return errors.New("not now")
		}
		return nil
	}
	retried := 0
	e := engineOf(m)
	e.Notify = func(ev Event) {
		if ev.Stage == Retrying {
			retried++
		}
	}
	res, _ := e.Apply(context.Background(), []object.Object{obj("a", "1")})
	if res.Err() != nil || retried != 2 {
		t.Errorf("error %v after %d retries, want none after 2", res.Err(), retried)
	}
}

func TestNeeds(t *testing.T) {
	m := newThings()
	user := obj("user", "")
	user.Needs = []object.Need{{From: "thing/source", Field: "value", Into: "/value"}}
	objects := []object.Object{user, obj("source", "s3")}
	e := engineOf(m)
	res, _ := e.Plan(context.Background(), objects)
	c := res.Plan.Changes[len(res.Plan.Changes)-1]
	if c.Address != "thing/user" || len(c.Fields) != 1 || c.Fields[0].Want != plan.AfterApply {
		t.Errorf("plan of the needing object: %+v", c)
	}
	if len(m.values) != 0 {
		t.Errorf("plan made %v", m.values)
	}
	if res, _ = e.Apply(context.Background(), objects); res.Err() != nil || m.values["thing/user"] != "s3" {
		t.Errorf("value %q, error %v", m.values["thing/user"], res.Err())
	}
}

// What needs a value that is about to change is planned with the value that comes: plan counts what apply then changes.
func TestPlanCountsWhatFollows(t *testing.T) {
	m := newThings()
	m.values["thing/source"], m.values["thing/user"], m.values["thing/last"] = "old", "old", "old"
	follower := func(name, from string) object.Object {
		o := obj(name, "")
		o.Needs = []object.Need{{From: object.Address("thing/" + from), Field: "value", Into: "/value"}}
		return o
	}
	objects := []object.Object{follower("last", "user"), follower("user", "source"), obj("source", "new")}
	e := engineOf(m)
	planned, _ := e.Plan(context.Background(), objects)
	applied, _ := e.Apply(context.Background(), objects)
	if got, want := addressesOf(planned.Plan), addressesOf(applied.Plan); got != want ||
		got != "thing/source thing/user thing/last" {
		t.Errorf("planned %s, applied %s", got, want)
	}
	again, _ := e.Plan(context.Background(), objects)
	if len(again.Plan.Changes) != 0 {
		t.Errorf("then planned %+v", again.Plan.Changes)
	}
}

func addressesOf(p plan.Plan) string {
	var out []string
	for _, c := range p.Changes {
		out = append(out, string(c.Address))
	}
	return strings.Join(out, " ")
}

// An object that cannot be judged, but is there, tells others what they need.
func TestPlanGoesOnWithWhatStands(t *testing.T) {
	m := newThings()
	m.values["thing/pin"], m.values["thing/client"] = "s3", "s3"
	pin, client := obj("pin", ""), obj("client", "")
	pin.Needs = []object.Need{{From: "thing/ca", Field: "value", Into: "/value"}}
	client.Needs = []object.Need{{From: "thing/pin", Field: "value", Into: "/value"}}
	res, err := engineOf(m).Plan(context.Background(), []object.Object{obj("ca", "s3"), pin, client})
	if err != nil || res.Err() != nil {
		t.Fatal(err, res.Err())
	}
	var got []object.Address
	for _, c := range res.Plan.Changes {
		got = append(got, c.Address)
	}
	if !slices.Equal(got, []object.Address{"thing/ca", "thing/pin"}) {
		t.Errorf("would change %v; the client is true", got)
	}
}

func TestReplaceAsksForConsent(t *testing.T) {
	m := newThings()
	m.values["thing/a"] = "old"
	b, _ := json.Marshal(thing{Value: "new", Replace: true})
	objects := []object.Object{{Address: "thing/a", Provider: "memory", Spec: b}}
	e := engineOf(m)
	res, _ := e.Apply(context.Background(), objects)
	if res.Err() == nil || m.values["thing/a"] != "old" || !strings.Contains(res.Failures[0].Hint, "--yes") {
		t.Errorf("replaced without consent: %v, %+v", m.values, res.Failures)
	}
	e.Consent.Destroy = true
	if res, _ = e.Apply(context.Background(), objects); res.Err() != nil || m.values["thing/a"] != "new" {
		t.Errorf("not replaced with consent: %v, %v", m.values, res.Err())
	}
}

func TestOrderTellsAllProblems(t *testing.T) {
	_, err := engineOf(newThings()).Apply(context.Background(),
		[]object.Object{obj("a", "1", "thing/b"), obj("b", "2", "thing/a"), obj("c", "3", "thing/nowhere"),
			obj("c", "4")})
	for _, want := range []string{"dependency cycle: thing/a -> thing/b -> thing/a",
		"thing/nowhere, which nothing asks for", "thing/c is asked for twice"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestFileLock(t *testing.T) {
	lock := FileLock{Path: t.TempDir() + "/a/lock"}.Lock
	unlock, err := lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a held lock was given: %v", err)
	} else if want := fmt.Sprintf("(pid %d, since ", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("%v lacks %q", err, want)
	}
	unlock()
	if unlock, err = lock(context.Background()); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestRemoveGoesBackwards(t *testing.T) {
	m := newThings()
	var gone []object.Address
	power := func(_ context.Context, _ provider.Erased, _ host.Host, o object.Object) error {
		gone = append(gone, o.Address)
		return nil
	}
	target := NewLocal(Drivers{"memory/thing": provider.New(m)}, &host.Local{}, nil, nil, nil)
	if _, err := target.Remove(context.Background(),
		[]object.Object{obj("a", ""), obj("b", "", "thing/a", "thing/elsewhere")}, power); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(gone) != "[thing/b thing/a]" {
		t.Errorf("removed in the order %v", gone)
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, containers := range []int{100, 300, 1000} {
		b.Run(fmt.Sprintf("containers=%d", containers), func(b *testing.B) {
			var objects []object.Object
			for i := range containers {
				prev := object.Address("")
				for j := range 10 {
					o := obj(fmt.Sprintf("%d/%d", i, j), "v")
					if prev != "" {
						o.After = []object.Address{prev}
					}
					objects, prev = append(objects, o), o.Address
				}
			}
			e := engineOf(newThings())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Plan(context.Background(), objects); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a failed try changed was changed, also where the next one finds nothing left to do.
func TestEveryTryCounts(t *testing.T) {
	m := newThings()
	m.fail["thing/a"] = func(attempt int) error {
		if attempt > 1 {
			return nil
		}
		m.values["thing/a"] = "1" // made, and reported as failed
		return errors.New("not now")
	}
	res, _ := engineOf(m).Apply(context.Background(), []object.Object{obj("a", "1")})
	if res.Err() != nil || res.Mutations != 1 || len(res.Plan.Changes) != 1 {
		t.Errorf("%v, %d mutations, changes %v; want none, 1 and 1", res.Err(), res.Mutations, res.Plan.Changes)
	}
}

func TestAdvice(t *testing.T) {
	run := func(cause error) error { return &host.RunError{Argv: []string{"ip", "link"}, Code: -1, Cause: cause} }
	for want, err := range map[string]error{
		"ask her":           provider.PermanentHint(errors.New("no"), "ask her"),
		"install ip":        run(fs.ErrNotExist),
		"where it hangs":    fmt.Errorf("x: %w", run(context.DeadlineExceeded)),
		"why it fails":      run(errors.New("exit status 1")),
		"df /a":             &fs.PathError{Op: "write", Path: "/a/b", Err: syscall.ENOSPC},
		"dmesg":             &fs.PathError{Op: "write", Path: "/a/b", Err: syscall.EIO},
		"ls -ld '/a b'":     &fs.PathError{Op: "open", Path: "/a b", Err: fs.ErrPermission},
		"run phoenix again": errors.New("something"),
	} {
		if got := Advice(err); !strings.Contains(got, want) {
			t.Errorf("%v: %q lacks %q", err, got, want)
		}
	}
	if got := Advice(context.Canceled); got != "" {
		t.Errorf("after an interrupt: %q", got)
	}
}

// A stop lets what was begun come to its end and begins nothing more; the end of the context itself does not wait.
func TestInterruptible(t *testing.T) {
	m := newThings()
	stop, interrupt := context.WithCancelCause(context.Background())
	ctx, cancel := Interruptible(context.Background(), stop)
	defer cancel()
	m.gate = func(object.Address) { interrupt(errors.New("no more")); <-ctx.Done() }
	res, _ := engineOf(m).Apply(ctx, []object.Object{obj("a", "1"), obj("b", "2", "thing/a")})
	if m.values["thing/a"] != "1" || len(m.values) != 1 {
		t.Errorf("made: %v, want a alone", m.values)
	}
	if left := res.Left(); len(left) != 1 || left[0] != "thing/b" || res.Failures[0].Message != "not begun: no more" {
		t.Errorf("left: %v, %+v", left, res.Failures)
	}
}

// A change comes to its end after a stop, but for one that is to end promptly.
func TestLasting(t *testing.T) {
	stop, cancel := context.WithCancel(context.Background())
	ctx, done := Interruptible(context.Background(), stop)
	defer done()
	prompt := Prompt(ctx)
	cancel()
	<-ctx.Done()
	if Lasting(ctx).Err() != nil || Lasting(prompt).Err() == nil {
		t.Errorf("after the stop: a change ends with %v, a prompt one with %v", Lasting(ctx).Err(),
			Lasting(prompt).Err())
	}
}
