package pve

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/test/sample"
)

// point is where phoenix is killed.
type point struct {
	where  string // a container's id: the agent in there; empty: the hypervisor's phoenix
	what   string // the change
	nth    int    // of equal ones, counted from 1
	after  bool   // the change has been made
	parent bool   // where it is an agent: the hypervisor's phoenix ends with it
}

func (p point) String() string { return p.text(100) }

// kind is all of it, as what has the same beginning may be of another kind, but for the name of an object inside a
// container: one driver stands in for all of these, and makes a file.
func (p point) kind() string { return insideObject.ReplaceAllString(p.text(len(p.what)), "$1") }

var insideObject = regexp.MustCompile(`(/objects/[a-z]+)_\S*`)

func (p point) text(most int) string {
	when := "before"
	if p.after {
		when = "after"
	}
	who := "phoenix"
	if p.where != "" {
		who = "agent " + p.where
	}
	if p.parent {
		who += " and phoenix"
	}
	return fmt.Sprintf("%s, %s (%d) %.*s", who, when, p.nth, most, p.what)
}

func (p point) environment() []string {
	env := []string{"PHX_FAULT=kill", "PHX_AT=" + p.what, fmt.Sprintf("PHX_NTH=%d", p.nth)}
	if p.after {
		env = append(env, "PHX_AFTER=1")
	}
	if p.parent {
		env = append(env, "PHX_PARENT=1")
	}
	return env
}

// watch makes every phoenix of the next run write down its changes, and the one that p names die there.
func (h *hypervisor) watch(p point) (own []string) {
	h.t.Helper()
	for _, id := range append([]string{""}, ids...) {
		env := []string{"PHX_CALLS=" + h.calls(id), "PHX_BASE=" + h.base}
		if id == p.where && p.what != "" {
			env = append(env, p.environment()...)
		}
		if id == "" {
			own = env
			continue
		}
		h.write(strings.Join(env, "\n")+"\n", "env."+id)
	}
	return own
}

// quiet makes the next runs plain ones.
func (h *hypervisor) quiet() {
	for _, id := range ids {
		h.write("", "env."+id)
	}
}

func (h *hypervisor) calls(id string) string { return h.path("calls." + id) }

// Without a kill two runs from nothing end the same: else the comparison below would say nothing.
func (h *hypervisor) reference(create []string) (points []point, state []string) {
	h.t.Helper()
	for range 2 {
		h.reset()
		if r := h.phoenix(h.watch(point{}), create...); r.exit != 0 {
			h.t.Fatalf("without a kill: %s", r)
		}
		h.quiet()
		h.unchanged(create)
		before := state
		if state = h.state(); before != nil {
			h.same("two runs without a kill", before, state)
		}
	}
	for _, id := range append([]string{""}, ids...) {
		raw, err := os.ReadFile(h.calls(id))
		if err != nil {
			h.t.Fatal(err)
		}
		points = append(points, pointsOf(id, string(raw))...)
	}
	return points, state
}

// pointsOf makes two points of each change. An agent dies alone, or together with the hypervisor's phoenix.
func pointsOf(id, calls string) (points []point) {
	seen := map[string]int{}
	for what := range strings.Lines(calls) {
		what = strings.TrimSuffix(what, "\n")
		seen[what]++
		for _, after := range []bool{false, true} {
			points = append(points, point{where: id, what: what, nth: seen[what], after: after, parent: id != "" &&
				after})
		}
	}
	return points
}

// unchanged wants an empty plan, and a run that makes no change.
func (h *hypervisor) unchanged(create []string) {
	h.t.Helper()
	if doc, r := h.changes(0, append([]string{"plan", "--detailed-exitcode"}, ids...)...); len(doc.Changes) > 0 {
		h.t.Errorf("the plan is not empty: %s", r)
	}
	if doc, r := h.changes(0, create...); len(doc.Changes) > 0 || doc.Mutations > 0 {
		h.t.Errorf("one more run changes something: %s", r)
	}
}

func (h *hypervisor) same(what string, want, have []string) {
	h.t.Helper()
	for _, line := range want {
		if !slices.Contains(have, line) {
			h.t.Errorf("%s: missing %s", what, line)
		}
	}
	for _, line := range have {
		if !slices.Contains(want, line) {
			h.t.Errorf("%s: too much %s", what, line)
		}
	}
	if len(want) != len(have) {
		h.t.Errorf("%s: %d things, want %d", what, len(have), len(want))
	}
}

// root is the CA's root as its volume has it; empty: none yet.
func (h *hypervisor) root() string {
	raw, err := os.ReadFile(h.path("mounts", "103", "ssl", "root"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	return string(raw)
}

// strike runs create until it dies at p. false: it never came there, as another change was made first.
func (h *hypervisor) strike(p point, create []string) bool {
	h.t.Helper()
	for range 5 {
		h.reset()
		r := h.phoenix(h.watch(p), create...)
		_, err := os.Stat(h.calls(p.where) + ".struck")
		h.quiet()
		if err != nil {
			if r.exit != 0 {
				h.t.Fatalf("not killed, and failed: %s", r)
			}
			continue
		}
		// Who lost only an agent goes on by itself.
		if alone := p.where != "" && !p.parent; alone != (r.exit == 0) || !alone && r.exit != -1 {
			h.t.Errorf("struck: %s", r)
		}
		return true
	}
	return false
}

// shards are hosts among which the points of one test are shared, by their kind: much of the time is waiting.
const shards = 3

// Killed right before and right after every single change, and run again: the same end, an empty plan, no change after
// that.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	create := append([]string{"create"}, ids...)
	var missed, struck atomic.Int32
	t.Run("hosts", func(t *testing.T) {
		for i := range shards {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				points, want := h.reference(create) // its own: paths are in what is written, and in digests of it
				t.Logf("%d kill points; %d things stand at the end", len(points), len(want))
				points = shard(points, i)
				t.Logf("%d of them are tried here", len(points))
				for _, p := range points {
					if h.killedAt(t, p, create, want) {
						struck.Add(1)
					} else {
						missed.Add(1)
					}
				}
			})
		}
	})
	t.Logf("%d struck, %d never reached", struck.Load(), missed.Load())
	if missed.Load()*20 > struck.Load() {
		t.Errorf("too many points were never reached: %d of %d", missed.Load(), struck.Load()+missed.Load())
	}
}

// shard are those of a host.
func shard(points []point, host int) []point {
	if testing.Short() {
		points = everyNth(points, 9) // odd: before and after take turns
	} else {
		points = sample.OfEachKind(points, point.kind)
	}
	return slices.DeleteFunc(slices.Clone(points), func(p point) bool {
		h := fnv.New32a()
		h.Write([]byte(sample.Kind(p.kind())))
		return int(h.Sum32()%shards) != host
	})
}

func everyNth(points []point, n int) (out []point) {
	for i := 0; i < len(points); i += n {
		out = append(out, points[i])
	}
	return out
}

// killedAt is one point. false: it was never reached.
func (h *hypervisor) killedAt(t *testing.T, p point, create, want []string) (reached bool) {
	t.Run(p.String(), func(t *testing.T) {
		h := &hypervisor{t: t, name: h.name, base: h.base}
		if reached = h.strike(p, create); !reached {
			t.Skip("the order of parallel changes was another in each of five runs")
		}
		root := h.root()
		h.changes(0, create...)
		h.unchanged(create)
		h.same("after the kill", want, h.state())
		if root != "" && h.root() != root {
			t.Errorf("the CA has another root: %s, then %s", root, h.root())
		}
	})
	return reached
}
