package health

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// now is the time in most tests: the wall clock once, since servers use the real one.
var now = time.Now().Truncate(time.Second)

type fakeFile struct {
	mode     fs.FileMode
	uid, gid int
	data     string
}

type fakeRun struct {
	out, err string
	code     int
}

// fakeHost is a system in memory. What changes a system is not implemented: calling it ends the test.
type fakeHost struct {
	host.Host
	t     *testing.T
	files map[string]fakeFile
	links map[string]string  // symbolic links
	runs  map[string]fakeRun // by argv, joined
	walls []string           // answers to attempts to connect, one each, the last one for good; none: dials says
	dials map[string]string  // network and address as asked for -> real address; what is not in it refuses
	users map[string]host.Owner
	clock func() time.Time
	times map[string]time.Time // when files were written
}

func newHost(t *testing.T) *fakeHost {
	return &fakeHost{
		t: t, files: map[string]fakeFile{}, links: map[string]string{}, runs: map[string]fakeRun{},
		dials: map[string]string{},
		users: map[string]host.Owner{"": {}, "root": {}, "step": {UID: 999, GID: 999}},
		clock: time.Now,
	}
}

func (h *fakeHost) put(name string, mode fs.FileMode, uid, gid int, data string) {
	h.files[name] = fakeFile{mode, uid, gid, data}
}

func (h *fakeHost) Now() time.Time { return h.clock() }

func (h *fakeHost) Run(_ context.Context, c host.Command) (host.Result, error) {
	if c.Mutates {
		h.t.Errorf("a check changes the system: %q", c.Argv)
	}
	r, ok := h.runs[strings.Join(c.Argv, " ")]
	if !ok {
		h.t.Errorf("unexpected command %q", c.Argv)
	}
	res := host.Result{Stdout: []byte(r.out), Stderr: []byte(r.err), Code: r.code}
	if r.code != 0 {
		return res, &host.RunError{Argv: c.Argv, Output: r.err, Code: r.code, Cause: errors.New("exit status")}
	}
	return res, nil
}

func (h *fakeHost) find(op, name string) (fakeFile, error) {
	f, ok := h.files[name]
	if !ok {
		return f, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (h *fakeHost) ReadFile(name string) ([]byte, error) {
	f, err := h.find("open", name)
	return []byte(f.data), err
}

func (h *fakeHost) Lstat(name string) (host.Meta, error) {
	f, err := h.find("lstat", name)
	return host.Meta{Mode: f.mode, UID: f.uid, GID: f.gid, Size: int64(len(f.data)), ModTime: h.times[name]}, err
}

func (h *fakeHost) ReadDir(name string) ([]string, error) {
	var out []string
	for p := range h.files {
		if path.Dir(p) == name && p != name {
			out = append(out, path.Base(p))
		}
	}
	slices.Sort(out)
	_, err := h.find("open", name)
	return out, err
}

func (h *fakeHost) Readlink(name string) (string, error) {
	if to, ok := h.links[name]; ok {
		return to, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
}

func (h *fakeHost) Lookup(user, group string) (host.Owner, error) {
	o, ok := h.users[user]
	if !ok {
		return o, errors.New("unknown user " + user)
	}
	if group != "" {
		g, ok := h.users[group]
		if !ok {
			return o, errors.New("unknown group " + group)
		}
		o.GID = g.GID
	}
	return o, nil
}

func (h *fakeHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if len(h.walls) > 0 {
		return h.wall(ctx)
	}
	real, ok := h.dials[network+" "+address]
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	return (&net.Dialer{}).DialContext(ctx, network, real)
}

// runCase is one run of one kind of check.
type runCase struct {
	kind string
	name string
	// set prepares the host and gives the parameters.
	set  func(t *testing.T, h *fakeHost) any
	want Status
	says string // in summary or evidence
}

// inside is whether a check of the kind may run in a container.
func (rc runCase) inside() bool {
	return !slices.Contains([]string{kindBridge, kindResolver, kindPin, kindRunning, kindIDMap, kindVolumeOwner,
		kindVolumeParents, kindVolumeAlone,
		kindSwitch, kindOwnIDs, kindHeadroom, kindRules, kindIdentity, kindHostFirewall, kindLAN, kindStorage, kindAddress,
		kindPort53, kindOtherRules, kindKernel, kindHostClock, kindMirror, kindUpstreams}, rc.kind)
}

func (rc runCase) run(t *testing.T) {
	h := newHost(t)
	params := rc.set(t, h)
	m := &model{running: map[string]spec.Running{"101": {ID: "101"}}}
	d := m.add(rc.kind, testObject("running/101", spec.Running{ID: "101"}), "101", params)
	r := Run(t.Context(), h, d.Check)
	if r.Status != rc.want || !strings.Contains(r.Summary+" | "+r.Evidence, rc.says) {
		t.Errorf("got %s: %s | %s\nwant %s with %q", r.Status, r.Summary, r.Evidence, rc.want, rc.says)
	}
	if r.ID != d.ID || r.Object != d.Object || r.Summary == "" {
		t.Errorf("incomplete result %+v", r)
	}
	if (r.Fix != "") != (r.Status == Fail) {
		t.Errorf("%s has fix %q", r.Status, r.Fix)
	}
	if said := Said(d.Check, r); r.Status == Fail && rc.inside() && said.Fix != r.Fix {
		t.Errorf("the hypervisor would advise %q, and not %q", said.Fix, r.Fix)
	}
	if strings.Contains(r.Summary+r.Evidence+r.Fix, "PRIVATE KEY") {
		t.Errorf("key material in %+v", r)
	}
}

// TestRun runs every case, and makes sure that every kind of check is seen to pass and to fail.
func TestRun(t *testing.T) {
	seen := map[string]map[Status]bool{}
	cases := slices.Concat(containerCases(), listeningCases(), idsCases(), networkCases(), lanCases(),
		rootPermitsCases(), accessCases(), sharingCases(), authorityCases(), certificateCases(), routeCases(),
		commandCases(), firewallCases(), headroomCases(), proxmoxRulesCases(), rulesCases(), storageCases(),
		portCases(), addressCases(), kernelCases(), mirrorCases())
	for _, rc := range cases {
		if seen[rc.kind] == nil {
			seen[rc.kind] = map[Status]bool{}
		}
		seen[rc.kind][rc.want] = true
		t.Run(rc.kind+"/"+rc.name, rc.run)
	}
	for _, e := range table() {
		if AboutIssued(Check{Kind: e.kind}) {
			continue // TestIssued
		}
		always := map[string]Status{kindInside: Pass, kindUnreadable: Fail}[e.kind]
		for _, s := range []Status{Pass, Fail} {
			if !seen[e.kind][s] && (always == "" || always == s) {
				t.Errorf("no case in which %s ends with %s", e.kind, s)
			}
		}
	}
}
