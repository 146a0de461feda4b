package kill

import (
	"os"
	"strings"
	"testing"
)

// failures are, for each change, all ways in which it can go wrong: before its effect for good, after it once; commands
// also hang in both ways, and end well without having done anything.
func failures(points []point) (cases []point) {
	for _, p := range points {
		if p.looks() {
			continue
		}
		faults := []string{"fail"}
		if strings.HasPrefix(p.what, "run ") {
			faults = append(faults, "hang")
		}
		p.parent, p.always = false, !p.after
		for _, p.fault = range faults {
			cases = append(cases, p)
		}
		if len(faults) > 1 && !p.after {
			p.fault, p.always = "garbage", false
			cases = append(cases, p)
		}
	}
	return cases
}

// What phoenix mends by its own it ends well; else it says which call failed and what to do. Run again without the
// fault: the same end, an empty plan, no change after that.
func TestFailingAnywhere(t *testing.T) {
	all := hypervisors(t)
	whole := failures(all[0].made)
	cases := some(whole)
	t.Logf("%d cases of %d", len(cases), len(whole))
	var n tally
	everywhere(t, all, cases, func(h *hypervisor, p point) {
		r, ok := h.strike(p)
		if !ok {
			n.miss(h.t)
		}
		n.struck.Add(1)
		h.failed(p, r)
	})
	n.check(t)
}

// sights is one of each kind of command that only looks, with all ways in which it can go wrong for good.
func sights(points []point) (cases []point) {
	seen := map[string]bool{}
	for _, p := range points {
		if kind := kindOf(p.what); p.looks() && !seen[kind] {
			seen[kind] = true
			p.after, p.always, p.parent = false, true, false
			for _, p.fault = range []string{"fail", "hang", "garbage"} {
				cases = append(cases, p)
			}
		}
	}
	return cases
}

// kindOf a command: the program, with what it runs in a container and the first flag.
func kindOf(what string) string {
	_, command, _ := strings.Cut(what, " ")
	program, args, _ := strings.Cut(command, " ")
	if _, inside, ok := strings.Cut(args, " -- "); ok && program == "lxc-attach" {
		args = inside
	}
	first, _, _ := strings.Cut(args, " ")
	return program + " " + first
}

// The same for commands that only look, before the first change and after it.
func TestLookingFails(t *testing.T) {
	all := hypervisors(t)
	cases := sights(all[0].made)
	t.Logf("%d cases", len(cases))
	everywhere(t, all, cases, func(h *hypervisor, p point) {
		r, ok := h.strike(p)
		if !ok {
			h.t.Fatal("it never came there")
		}
		h.failed(p, r)
	})
}

// An agent that does not begin, says nothing or nonsense fails what is inside its container, and nothing else.
func TestAgentFails(t *testing.T) {
	h := hypervisors(t)[0]
	for _, fault := range []string{"fail", "hang", "garbage"} {
		t.Run(fault, func(t *testing.T) {
			h := h.in(t)
			h.reset()
			h.quiet()
			h.write(fault, "agent.102")
			r := h.phoenix([]string{"PHX_HASTE=1"}, create...)
			if err := os.Remove(h.path("agent.102")); err != nil {
				t.Fatal(err)
			}
			if r.exit != 1 {
				t.Fatalf("want exit 1: %s", r)
			}
			h.told("run lxc-attach -P "+h.path("root", "lxc")+" -n 102 ", r)
			for _, f := range h.document(r).Failures {
				if !strings.Contains(f.Address, "/102") {
					t.Errorf("%s failed too: %s", f.Address, f.Message)
				}
			}
			h.recovers()
		})
	}
}

func (h *hypervisor) failed(p point, r result) {
	h.t.Helper()
	raw, err := os.ReadFile(h.calls(p.where) + ".struck")
	if err != nil {
		h.t.Fatal(err)
	}
	switch r.exit {
	case 0:
		if p.always {
			h.t.Logf("it does not matter: %s", p)
		}
		h.unchanged()
		h.same("mended by itself", h.want)
	case 1:
		h.told(string(raw), r)
		h.recovers()
	default:
		h.t.Errorf("want exit 0 or 1: %s", r)
	}
}

// told wants an error that names the call and says what to do, and everything else that failed to be blocked.
func (h *hypervisor) told(raw string, r result) {
	h.t.Helper()
	doc := h.document(r)
	if doc.Stopped != "" {
		h.t.Errorf("not ended by a limit: %s", r)
	}
	named := false
	for _, f := range doc.Failures {
		if f.BlockedBy != "" {
			continue
		}
		named = named || saysCall(f.Message, raw)
		if f.Hint == "" {
			h.t.Errorf("%s does not say what to do: %s", f.Address, f.Message)
		}
	}
	if !named {
		h.t.Errorf("no failure names %q: %s", call(raw), r)
	}
}

// saysCall is whether an error names the call; of the command that builds a template, which fills a screen, also what
// it was for.
func saysCall(message, raw string) bool {
	return strings.Contains(message, call(raw)) || strings.Contains(raw, "mmdebstrap ") &&
		strings.Contains(message, "could not be built: ")
}

// call is what an error must name: a command as it is pasted, a file with what was done to it.
func call(raw string) string {
	kind, what, _ := strings.Cut(raw, " ")
	switch kind {
	case "run", "look":
		return what
	case "rename", "setxattr":
		path, _, _ := strings.Cut(what, " ")
		return kind + " " + path
	}
	return raw
}
