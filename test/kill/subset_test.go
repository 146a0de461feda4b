package kill

import (
	"slices"
	"strings"
	"testing"
)

// order is some of the containers, as they stand on the command line, while one cannot be made.
type order struct {
	ids    []string
	broken string // empty: none
}

func (o order) String() string {
	if o.broken == "" {
		return strings.Join(o.ids, " ")
	}
	return strings.Join(o.ids, " ") + " while " + o.broken + " is broken"
}

// brings are the containers that come in with one: those that it depends on, and itself.
var brings = map[string][]string{"103": {"103"}, "101": {"101", "103"}, "102": {"102", "101", "103"}}

func (o order) wants(id string) bool {
	return slices.ContainsFunc(o.ids, func(named string) bool { return slices.Contains(brings[named], id) })
}

// orders are all subsets in all orders.
func orders(left []string) (out [][]string) {
	for _, id := range left {
		rest := slices.DeleteFunc(slices.Clone(left), func(other string) bool { return other == id })
		out = append(out, []string{id})
		for _, more := range orders(rest) {
			out = append(out, append([]string{id}, more...))
		}
	}
	return out
}

// Whatever is asked for, in any order: what can be true becomes true; what depends on a broken container says so, and
// why.
func TestAnySubset(t *testing.T) {
	all := hypervisors(t)
	var cases []order
	for _, some := range orders(ids) {
		for _, broken := range append([]string{""}, ids...) {
			cases = append(cases, order{some, broken})
		}
	}
	everywhere(t, all, cases, func(h *hypervisor, o order) {
		h.reset()
		p := point{}
		if o.broken != "" {
			p = h.cloning(o.broken)
		}
		r := h.phoenix(h.watch(p), append([]string{"create"}, o.ids...)...)
		h.quiet()
		if o.broken != "" && o.wants(o.broken) {
			h.broken(o, r)
		} else if r.exit != 0 || h.document(r).Failures == nil {
			h.t.Errorf("want exit 0: %s", r)
		}
		h.changes(0, append([]string{"create"}, o.ids...)...)
		if doc, r := h.changes(0, append([]string{"plan", "--detailed-exitcode"}, o.ids...)...); len(doc.Changes) > 0 {
			h.t.Errorf("the plan is not empty: %s", r)
		}
		if o.broken == "" {
			h.recovers()
		}
	})
}

// cloning is where a container's root file system is made: it fails for good.
func (h *hypervisor) cloning(id string) point {
	h.t.Helper()
	for _, p := range h.made {
		if strings.HasPrefix(p.what, "run cp ") && strings.HasSuffix(p.what, "/."+id+".new/rootfs") {
			p.fault, p.after, p.always = "fail", false, true
			return p
		}
	}
	h.t.Fatalf("container %s was never made", id)
	return point{}
}

// broken wants one failure, all others to be blocked by it, and nothing else to be left to do.
func (h *hypervisor) broken(o order, r result) {
	h.t.Helper()
	doc, culprit := h.document(r), "container/"+o.broken
	if r.exit != 1 {
		h.t.Errorf("want exit 1: %s", r)
	}
	var failed []string
	for _, f := range doc.Failures {
		failed = append(failed, f.Address)
		switch {
		case f.Address == culprit && f.BlockedBy == "" && f.Hint != "" &&
			strings.HasPrefix(f.Message, "command failed: cp --archive "):
		case f.BlockedBy == culprit &&
			strings.HasPrefix(f.Message, "blocked by "+culprit+": command failed: cp --archive "):
		default:
			h.t.Errorf("%s: want it blocked by %s: %+v", f.Address, culprit, f)
		}
		if !h.depends(f.Address, o.broken) {
			h.t.Errorf("%s does not need container %s: %s", f.Address, o.broken, f.Message)
		}
	}
	planned, _ := h.changes(0, append([]string{"plan"}, o.ids...)...)
	for _, c := range planned.Changes {
		if !slices.Contains(failed, c.Address) {
			h.t.Errorf("%s could have been made true", c.Address)
		}
	}
	if !slices.Contains(failed, culprit) {
		h.t.Errorf("%s did not fail: %s", culprit, r)
	}
}

// depends tells whether an object may be blocked by a container: its own ones are, and those inside of one that it
// comes in with.
func (h *hypervisor) depends(address, broken string) bool {
	scope := strings.Split(address, "/")[1]
	if scope == broken {
		return true
	}
	outside := []string{"container", "running", "port", "binary", "volume", "network", "dns", "template"}
	return slices.Contains(brings[scope], broken) &&
		!slices.ContainsFunc(outside, func(kind string) bool { return strings.HasPrefix(address, kind+"/") })
}

// One after another, in any order, ends as all at once; so does starting them.
func TestOneByOne(t *testing.T) {
	all := hypervisors(t)
	var cases []order
	for _, o := range orders(ids) {
		if len(o) == len(ids) {
			cases = append(cases, order{ids: o})
		}
	}
	everywhere(t, all, cases, func(h *hypervisor, o order) {
		h.reset()
		h.quiet()
		for _, id := range o.ids {
			h.changes(0, "create", id)
		}
		h.unchanged()
		h.same("made one by one", h.want)
		if r := h.phoenix(nil, append([]string{"stop"}, ids...)...); r.exit != 0 {
			h.t.Fatalf("stop: %s", r)
		}
		for _, id := range o.ids {
			h.changes(0, "start", id)
		}
		h.unchanged()
	})
}
