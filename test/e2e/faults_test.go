package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// fault is something that is broken on purpose while watch runs.
type fault struct {
	group, name string
	do          func(f *faults)
	// mended is whether what was broken is as it was; nil: health alone tells. It is asked often and changes nothing.
	mended func(f *faults) bool
	// told is what events must say before the person comes.
	told string
	// person does what only a person can do; then, and not before, it is whole again without more help.
	person func(f *faults)
	// systemd repairs it before anybody else has to.
	systemd bool
	// slow says why it may take longer than the others: a boot or a lifetime is in the way.
	slow string
	// newRoot: the fingerprint of the root is another at the end.
	newRoot bool
}

// faults is a hypervisor on which watch runs and things are broken.
type faults struct {
	*Hypervisor
	watch *exec.Cmd
	log   bytes.Buffer
	begun time.Time // when the present fault was made
	keep  map[string]string
	thief *exec.Cmd
}

const (
	healLimit = 30 * time.Second
	bootLimit = 60 * time.Second // where a container has to be made or started
)

func newFaults(t *testing.T, prepare func(h *Hypervisor)) *faults {
	f := &faults{Hypervisor: New(t, homelab()), keep: map[string]string{}}
	if prepare != nil {
		prepare(f.Hypervisor)
	}
	f.Phoenix("up").Want(0)
	f.start()
	t.Cleanup(f.stop)
	return f
}

// start begins to watch and waits for the first full round.
func (f *faults) start() {
	f.t.Helper()
	argv := f.inside(f.argv([]string{"watch"}))
	f.watch = exec.Command(argv[0], argv[1:]...)
	f.watch.Stdout, f.watch.Stderr = &f.log, &f.log
	f.watch.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := f.watch.Start(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *faults) stop() {
	if f.watch == nil {
		return
	}
	_ = syscall.Kill(-f.watch.Process.Pid, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- f.watch.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			f.t.Errorf("watch, told to stop: %v", err)
		}
	case <-time.After(30 * time.Second):
		f.t.Error("watch does not stop within 30 s of SIGTERM")
		_ = syscall.Kill(-f.watch.Process.Pid, syscall.SIGKILL)
	}
	f.watch = nil
	if f.t.Failed() {
		lines := strings.Split(strings.TrimSpace(f.log.String()), "\n")
		f.t.Logf("watch said last:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}

// still keeps watch, and the daemons in these containers, from doing anything while do runs: a fault of several steps
// is whole before anybody sees it.
func (f *faults) still(do func(), ids ...string) {
	f.t.Helper()
	pids := []int{-f.watch.Process.Pid}
	for _, id := range ids {
		pid, err := strconv.Atoi(strings.TrimSpace(f.in(id, "systemctl", "show", "--value", "--property", "MainPID",
			"phoenix-agent.service")))
		if err != nil {
			f.t.Fatal(err)
		}
		f.in(id, "kill", "-STOP", strconv.Itoa(pid))
		defer f.Exec(f.attach(id, "kill", "-CONT", strconv.Itoa(pid))...) // the container may be gone by then
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			f.t.Fatal(err)
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	}
	do()
	f.begun = time.Now()
}

func (f *faults) lxc() string { return filepath.Join(f.Root, "lxc") }

func (f *faults) attach(id string, argv ...string) []string {
	return append([]string{"lxc-attach", "-P", f.lxc(), "-n", id, "--clear-env", "--"}, argv...)
}

// in runs a command in a container; it must succeed.
func (f *faults) in(id string, argv ...string) string {
	f.t.Helper()
	return f.Exec(f.attach(id, argv...)...).Want(0).Stdout
}

// sh runs a script in a container.
func (f *faults) sh(id, script string) string { f.t.Helper(); return f.in(id, "sh", "-ec", script) }

// rootfs is a path in a container, seen from the hypervisor. It may go over volumes only by volume.
func (f *faults) rootfs(id string, path ...string) string {
	return filepath.Join(append([]string{f.lxc(), id, "rootfs"}, path...)...)
}

func (f *faults) volume(id, name string, path ...string) string {
	return filepath.Join(append([]string{f.Root, "volumes", id, name}, path...)...)
}

// tool runs lxc-NAME on a container.
func (f *faults) tool(name, id string, more ...string) Result {
	return f.Exec(append([]string{"lxc-" + name, "-P", f.lxc(), "-n", id}, more...)...)
}

func (f *faults) runs(id string) bool {
	return strings.Contains(f.tool("info", id, "--state").Stdout, "RUNNING")
}

// init is the process id of a container's init.
func (f *faults) init(id string) int {
	pid, _ := strconv.Atoi(strings.TrimSpace(f.tool("info", id, "--pid", "--no-humanize").Stdout)) // 0: it does not run
	return pid
}

func (f *faults) active(id, unit string) bool {
	return f.Exec(f.attach(id, "systemctl", "is-active", "--quiet", unit)...).Exit == 0
}

func (f *faults) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// rewrite changes a file in place and keeps its mode and owner.
func (f *faults) rewrite(path string, change func(string) string) {
	f.t.Helper()
	raw, err := os.ReadFile(path)
	f.must(err)
	fi, err := os.Stat(path)
	f.must(err)
	st := fi.Sys().(*syscall.Stat_t)
	text := change(string(raw))
	if text == string(raw) {
		f.t.Fatalf("%s: nothing was changed", path)
	}
	f.must(os.WriteFile(path+".new", []byte(text), fi.Mode().Perm()))
	f.must(os.Chown(path+".new", int(st.Uid), int(st.Gid)))
	f.must(os.Chmod(path+".new", fi.Mode().Perm()))
	f.must(os.Rename(path+".new", path))
}

// remember keeps a file's content for same.
func (f *faults) remember(path string) {
	f.t.Helper()
	raw, err := os.ReadFile(path)
	f.must(err)
	f.keep[path] = string(raw)
}

// same is whether a remembered file has its content again.
func (f *faults) same(path string) bool {
	raw, err := os.ReadFile(path)
	return err == nil && string(raw) == f.keep[path]
}

func mode(path string) os.FileMode {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Mode().Perm()
}

func owner(path string) uint32 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Sys().(*syscall.Stat_t).Uid
}

// event is an entry of phoenix events.
type event struct {
	Time    time.Time     `json:"time"`
	By      string        `json:"by"`
	Object  string        `json:"object"`
	Action  string        `json:"action"`
	Reason  string        `json:"reason"`
	Error   string        `json:"error"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// events are those since the present fault was made.
func (f *faults) events() []event {
	f.t.Helper()
	var doc struct {
		Events []event `json:"events"`
	}
	r := f.Phoenix("events", "-o", "json", "--since", (time.Since(f.begun) + time.Second).String()).Want(0)
	if err := json.Unmarshal([]byte(r.Stdout), &doc); err != nil {
		f.t.Fatalf("%v\n%s", err, r)
	}
	return slices.DeleteFunc(doc.Events, func(e event) bool {
		return e.Time.Add(-e.Elapsed).Before(f.begun.Add(-time.Second)) || e.Time.Before(f.begun)
	})
}

// outcome is one row of the table.
type outcome struct {
	fault            fault
	detected, healed time.Duration
	by               string
	attempts         int
	problem          string
}

// run makes one fault and waits until all is well again.
func (f *faults) run(x fault) outcome {
	f.t.Helper()
	f.begun = time.Now()
	x.do(f)
	o := outcome{fault: x}
	if x.person != nil {
		o.problem = f.awaitTold(x.told)
		f.begun = time.Now()
		x.person(f)
		if o.problem != "" {
			return o
		}
	}
	limit := healLimit
	if x.slow != "" {
		limit = bootLimit
	}
	if o.healed, o.problem = f.awaitHealed(x, limit); o.problem != "" {
		return o
	}
	f.tell(&o)
	return o
}

// awaitTold waits until events say what has to be said.
func (f *faults) awaitTold(text string) string {
	end := time.Now().Add(healLimit)
	for {
		said := fmt.Sprint(f.events())
		if strings.Contains(said, text) {
			return ""
		}
		if time.Now().After(end) {
			return fmt.Sprintf("nobody said %q within %s: %s", text, healLimit, said)
		}
	}
}

func (f *faults) awaitHealed(x fault, limit time.Duration) (time.Duration, string) {
	var last Result
	for time.Since(f.begun) < limit {
		if x.mended != nil && !await(limit-time.Since(f.begun), func() bool { return x.mended(f) }) {
			return 0, fmt.Sprintf("not mended after %s\n%s\n%v", limit, f.Phoenix("health", "-q"), f.events())
		}
		start := time.Now()
		if last = f.Phoenix("health", "-q"); last.Exit == 0 {
			return start.Sub(f.begun), ""
		}
	}
	return 0, fmt.Sprintf("not healthy after %s\n%s\n%v", limit, last, f.events())
}

// tell fills in who did what, by what they wrote down.
func (f *faults) tell(o *outcome) {
	var by []string
	var events []event
	tries := map[string]int{}
	// Whoever repairs something writes it down once it has seen to it that it holds.
	await(5*time.Second, func() bool {
		events = f.events()
		return len(events) > 0 || o.fault.systemd || o.fault.person != nil
	})
	for _, e := range events {
		if began := e.Time.Add(-e.Elapsed).Sub(f.begun); o.detected == 0 || began < o.detected {
			o.detected = max(began, time.Millisecond)
		}
		if !slices.Contains(by, e.By) {
			by = append(by, e.By)
		}
		tries[e.Object]++
		o.attempts = max(o.attempts, tries[e.Object])
	}
	slices.Sort(by)
	switch {
	case len(by) == 0 && o.fault.systemd:
		by, o.attempts = []string{"systemd"}, 1
	case len(by) == 0 && o.fault.person != nil:
		by = []string{"a person"}
	case len(by) == 0:
		o.problem = "nobody wrote down what was done: was it broken at all?"
	}
	o.by = strings.Join(by, ", ")
}

func table(rows []outcome) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tdetected after\thealed after\tby\tattempts\t")
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	for _, o := range rows {
		what := cmp.Or(map[bool]string{true: "FAILED"}[o.problem != ""], o.fault.slow)
		fmt.Fprintf(w, "%s: %s\t%s\t%s\t%s\t%d\t%s\n", o.fault.group, o.fault.name, round(o.detected), round(o.healed),
			o.by, o.attempts, what)
	}
	_ = w.Flush() // into memory
	return b.String()
}

func median(rows []outcome) time.Duration {
	var all []time.Duration
	for _, o := range rows {
		if o.problem == "" {
			all = append(all, o.healed)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// Each fault is made while watch runs, and is repaired without anybody's help; what cannot be repaired is told, and is
// whole again once a person has done his part. PHOENIX_FAULT names the ones to make, by a part of "group: name".
func TestFaults(t *testing.T) {
	f := newFaults(t, smallVolume)
	f.WantHealthy()
	root := fingerprint(f.RootCertificate())
	var rows []outcome
	for _, x := range slices.Concat(containerFaults, volumeFaults, nameFaults, certificateFaults, proxyFaults,
		hostFaults, authorityFaults) {
		full := x.group + ": " + x.name
		if !strings.Contains(full, os.Getenv("PHOENIX_FAULT")) {
			continue
		}
		o := f.run(x)
		rows = append(rows, o)
		if o.problem != "" {
			t.Errorf("%s: %s", full, o.problem)
			if r := f.Phoenix("up"); r.Exit != 0 {
				t.Fatalf("nor does up help\n%s", r)
			}
		}
		now := fingerprint(f.RootCertificate())
		if (now != root) != x.newRoot {
			t.Errorf("%s: the root was %s and is %s", full, root, now)
		}
		root = now
		t.Logf("%s: %s", full, o.healed.Round(10*time.Millisecond))
	}
	f.besideHostileAgents(t)
	t.Logf("\n%s\n%d faults, median %s", table(rows), len(rows), median(rows).Round(10*time.Millisecond))
	f.Phoenix("plan", "--detailed-exitcode").Want(0)
}
