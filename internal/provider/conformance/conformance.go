// Package conformance is the one suite that every provider passes: observing changes nothing, applying once is enough,
// applying twice changes nothing, an apply that is killed anywhere and run again ends the same, drift is found and
// repaired, what is somebody else's is refused, what is deleted is gone, and a tool that is missing or dead is told.
// test/conformance makes one table of it.
package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Damage does something to a system, to one object's or to what is in its place.
type Damage = func(t *testing.T, h host.Host, o object.Object)

// Case is one driver with one object on a fresh system.
type Case struct {
	Driver provider.Erased
	// Fresh gives a system without the object and the object's spec on it. It is called once for each kill point.
	Fresh func(t *testing.T) (host.Host, object.Object)
	// Break, where there is one, damages a true object; the suite repairs it.
	Break map[string]Damage
	// Fields are those of the delta that Break must have shown, all of them together.
	Fields []string
	// MaxKills bounds how many kill points are tried; 0: all of them.
	MaxKills int
	// Volatile status fields, such as times, are left out when end states are compared.
	Volatile []string
	// State, where there is one, tells all that observing must leave as it is, times of files too. See Tree.
	State func(t *testing.T, o object.Object) string
	// Foreign puts something of somebody else's in the object's place.
	Foreign Damage
	// Tools are the programs that observing or applying runs, as they are called.
	Tools []string
	// Fill puts something in an object that can be deleted and brought back; Filled demands that it is there.
	Fill, Filled Damage
	// Not has the reason for each part of the suite that does not fit this driver.
	Not map[string]string
}

// The parts of the suite, in the order of the table.
var Parts = []string{"decode", "observe", "create", "idempotent", "drift", "killed", "foreign", "delete",
	"missing tool", "dead tool"}

// Run runs the suite.
func Run(t *testing.T, c Case) {
	parts := map[string]func(*testing.T, Case){
		"decode": strict, "observe": unchanged, "create": created, "idempotent": twice, "drift": drift,
		"killed":  killed,
		"foreign": foreign, "delete": deleted,
		"missing tool": func(t *testing.T, c Case) { tools(t, c, missing) },
		"dead tool":    func(t *testing.T, c Case) { tools(t, c, dead) },
	}
	for _, name := range Parts {
		t.Run(name, func(t *testing.T) {
			if why := c.Not[name]; why != "" {
				t.Skip(why)
			}
			parts[name](t, c)
		})
	}
}

func strict(t *testing.T, c Case) {
	if !c.Driver.Decode(json.RawMessage(`{"no_such_field_anywhere":1}`)).HasErrors() {
		t.Error("an unknown field was taken")
	}
	if !c.Driver.Decode(json.RawMessage(`[]`)).HasErrors() {
		t.Error("a list was taken for a spec")
	}
}

// unchanged looks at an absent object and at a true one, and demands that nothing is another than before.
func unchanged(t *testing.T, c Case) {
	h, o := c.Fresh(t)
	counted := host.NewCounted(h, func(what string) { t.Error("observing changes:", what) })
	look := func() {
		t.Helper()
		var before string
		if c.State != nil {
			before = c.State(t, o)
		}
		observe(t, c, counted, o)
		if c.State == nil {
			return
		}
		if after := c.State(t, o); after != before {
			t.Errorf("observing changed the system, from\n%s\nto\n%s", before, after)
		}
	}
	look()
	obs := observe(t, c, h, o)
	apply(t, c, h, o, obs.Delta)
	look()
}

func created(t *testing.T, c Case) {
	h, o := c.Fresh(t)
	counted := host.NewCounted(h, func(what string) { t.Log("change:", what) })
	first := observe(t, c, counted, o)
	if first.Delta.Empty() {
		t.Fatal("nothing to do on a fresh system: the case proves nothing")
	}
	apply(t, c, counted, o, first.Delta)
	if counted.Mutations() == 0 {
		t.Error("it was made without a change")
	}
	settled(t, c, counted, o)
}

// twice demands that a true object needs nothing, however often it is looked at.
func twice(t *testing.T, c Case) {
	h, o := c.Fresh(t)
	counted := host.NewCounted(h, nil)
	obs := observe(t, c, counted, o)
	apply(t, c, counted, o, obs.Delta)
	made := counted.Mutations()
	for range 2 {
		if obs = settled(t, c, counted, o); !obs.Delta.Empty() {
			apply(t, c, counted, o, obs.Delta)
		}
	}
	if n := counted.Mutations() - made; n != 0 {
		t.Errorf("a true object was changed %d times", n)
	}
}

// settled demands that the object is true and that a further look changes nothing.
func settled(t *testing.T, c Case, h *host.Counted, o object.Object) provider.Observation {
	t.Helper()
	before := h.Mutations()
	obs := observe(t, c, h, o)
	if !obs.Delta.Empty() {
		t.Fatalf("still to do after apply: %+v", obs.Delta)
	}
	if n := h.Mutations() - before; n != 0 {
		t.Fatalf("observing a true object changed the system %d times", n)
	}
	return obs
}

func killed(t *testing.T, c Case) {
	h, o := c.Fresh(t)
	f := &host.Faulty{Host: h}
	obs := observe(t, c, f, o)
	apply(t, c, f, o, obs.Delta)
	want := endState(t, c, settled(t, c, host.NewCounted(h, nil), o))
	step := 1
	if c.MaxKills > 0 && f.Seen() > c.MaxKills {
		step = (f.Seen() + c.MaxKills - 1) / c.MaxKills
	}
	for at := 1; at <= f.Seen(); at += step {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("change %d of %d, applied %t", at, f.Seen(), applied), func(t *testing.T) {
				h, o := c.Fresh(t)
				obs := observe(t, c, h, o)
				faulty := &host.Faulty{Host: h, At: at, Applied: applied}
				err := c.Driver.Apply(context.Background(), faulty, o, obs.Delta)
				if err == nil && faulty.Seen() >= at { // what takes longer may need more changes another time
					t.Error("a failed change was not reported")
				}
				if again := observe(t, c, h, o); !again.Delta.Empty() {
					apply(t, c, h, o, again.Delta)
				}
				if got := endState(t, c, settled(t, c, host.NewCounted(h, nil), o)); got != want {
					t.Errorf("end state differs:\n got %s\nwant %s", got, want)
				}
			})
		}
	}
}

// drift damages the object in each way and repairs it.
func drift(t *testing.T, c Case) {
	if len(c.Break) == 0 {
		t.Skip("no damage is known")
	}
	shown := map[string]bool{}
	for name, damage := range c.Break {
		t.Run(name, func(t *testing.T) {
			for _, f := range repaired(t, c, damage).Fields {
				shown[f.Path] = true
			}
		})
	}
	for _, field := range c.Fields {
		if !shown[field] && !t.Failed() {
			t.Errorf("no damage showed in field %s", field)
		}
	}
}

func repaired(t *testing.T, c Case, damage Damage) plan.Delta {
	h, o := c.Fresh(t)
	obs := observe(t, c, h, o)
	apply(t, c, h, o, obs.Delta)
	damage(t, h, o)
	obs = observe(t, c, h, o)
	if obs.Delta.Empty() {
		t.Fatal("the damage was not seen")
	}
	apply(t, c, h, o, obs.Delta)
	settled(t, c, host.NewCounted(h, nil), o)
	return obs.Delta
}

func observe(t *testing.T, c Case, h host.Host, o object.Object) provider.Observation {
	t.Helper()
	obs, err := c.Driver.Observe(context.Background(), h, o)
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	return obs
}

func apply(t *testing.T, c Case, h host.Host, o object.Object, d plan.Delta) {
	t.Helper()
	if err := c.Driver.Apply(context.Background(), h, o, d); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

func endState(t *testing.T, c Case, obs provider.Observation) string {
	t.Helper()
	var status map[string]any
	if err := json.Unmarshal(obs.Status, &status); err != nil {
		t.Fatalf("status is no JSON object: %s", obs.Status)
	}
	for key := range status {
		if slices.Contains(c.Volatile, key) {
			delete(status, key)
		}
	}
	b, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
