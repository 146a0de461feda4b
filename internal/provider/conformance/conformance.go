// Package conformance is the one suite that every provider passes: observing changes nothing, applying once is enough,
// applying twice changes nothing, and an apply that is killed anywhere and run again ends the same.
package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Case is one driver with one object on a fresh system.
type Case struct {
	Driver provider.Erased
	// Fresh gives a system without the object and the object's spec on it. It is called once for each kill point.
	Fresh func(t *testing.T) (host.Host, object.Object)
	// Break, where there is one, damages a true object; the suite repairs it.
	Break map[string]func(t *testing.T, h host.Host, o object.Object)
	// MaxKills bounds how many kill points are tried; 0: all of them.
	MaxKills int
	// Volatile status fields, such as times, are left out when end states are compared.
	Volatile []string
}

// Run runs the suite.
func Run(t *testing.T, c Case) {
	t.Run("strict decode", func(t *testing.T) { strict(t, c) })
	t.Run("apply once", func(t *testing.T) { once(t, c) })
	t.Run("killed anywhere", func(t *testing.T) { killed(t, c) })
	for name, damage := range c.Break {
		t.Run("repairs "+name, func(t *testing.T) { repairs(t, c, damage) })
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

func once(t *testing.T, c Case) {
	h, o := c.Fresh(t)
	counted := host.NewCounted(h, func(what string) { t.Log("change:", what) })
	first := observe(t, c, counted, o)
	if counted.Mutations() != 0 {
		t.Fatalf("observing changed the system %d times", counted.Mutations())
	}
	if first.Delta.Empty() {
		t.Fatal("nothing to do on a fresh system: the case proves nothing")
	}
	apply(t, c, counted, o, first.Delta)
	settled(t, c, counted, o)
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
				err := c.Driver.Apply(context.Background(), &host.Faulty{Host: h, At: at, Applied: applied}, o, obs.Delta)
				if err == nil {
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

func repairs(t *testing.T, c Case, damage func(*testing.T, host.Host, object.Object)) {
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
	for _, f := range c.Volatile {
		delete(status, f)
	}
	b, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
