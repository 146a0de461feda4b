// Package e2e tests the real phoenix binary on real containers. A test
// hypervisor is a network namespace with a --root and a configuration of its
// own, so that bridges, dnsmasq and lxc's abstract sockets of two tests never
// meet. Nothing of phoenix is imported: the tests know the command line only.
//
// Environment: PHOENIX_BIN names a built binary (default: it is built);
// PHOENIX_CACHE keeps artifacts and template archives across tests;
// PHOENIX_E2E=required turns the skip on a machine that lacks root or a tool
// into a failure.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Limit is how long one phoenix command may take; the slowest is the first
// create on a loaded machine.
const Limit = 10 * time.Minute

// Hypervisor is one test hypervisor. Its methods are for one goroutine.
type Hypervisor struct {
	t      testing.TB
	Name   string // of the network namespace
	Root   string // phoenix --root
	Config string // directory with the configuration, a copy that the test may edit
	bin    string
}

var counter atomic.Int32

// New makes a hypervisor that runs the configuration in directory config and is
// destroyed, with all that phoenix made on it, when the test ends.
func New(t testing.TB, config string) *Hypervisor {
	t.Helper()
	parts := need(t)
	base, err := os.MkdirTemp("", "phxe2e-")
	if err != nil {
		t.Fatal(err)
	}
	// An unprivileged container's init passes through this directory.
	if err := os.Chmod(base, 0o711); err != nil {
		t.Fatal(err)
	}
	h := &Hypervisor{
		t: t, bin: parts.bin,
		Name:   fmt.Sprintf("%s-%d", prefix(), counter.Add(1)),
		Root:   filepath.Join(base, "root"),
		Config: filepath.Join(base, "config"),
	}
	t.Cleanup(func() { h.destroy(base) })
	if err := os.CopyFS(h.Config, os.DirFS(config)); err != nil {
		t.Fatal(err)
	}
	command(t, "ip", "netns", "add", h.Name)
	command(t, "ip", "-n", h.Name, "link", "set", "lo", "up")
	return h
}

// prefix is that of this run's network namespaces. Whoever cleans up after the run gives it: PHOENIX_TEST_PREFIX.
func prefix() string {
	p := os.Getenv("PHOENIX_TEST_PREFIX")
	if p == "" {
		p = "phx"
	}
	return fmt.Sprintf("%s-e2e-%d", p, os.Getpid())
}

// destroy works from the outside and does not trust phoenix.
func (h *Hypervisor) destroy(base string) {
	if h.t.Failed() {
		h.t.Logf("after the failure:\n%s", failing(h.Phoenix("health")))
	}
	sweep := exec.Command(filepath.Join(repo(), "tools", "sweep"), base)
	if out, err := sweep.CombinedOutput(); err != nil {
		h.t.Errorf("sweep %s: %v\n%s", base, err, out)
	}
	for _, pid := range h.Processes() {
		var n int
		if _, err := fmt.Sscan(pid, &n); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL) // may have ended by itself
		}
	}
	if out, err := exec.Command("ip", "netns", "delete", h.Name).CombinedOutput(); err != nil {
		h.t.Errorf("ip netns delete %s: %v\n%s", h.Name, err, out)
	}
}

// failing is what a command printed without the checks that passed: a hundred of them push the reason of a failure out
// of a log that somebody cuts.
func failing(r Result) string {
	var kept []string
	for line := range strings.Lines(r.String()) {
		if !strings.HasPrefix(strings.TrimSpace(line), "pass ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// Processes lists the ids of all processes on the hypervisor itself; those in
// its containers are in namespaces of their own.
func (h *Hypervisor) Processes() []string {
	out, err := exec.Command("ip", "netns", "pids", h.Name).Output()
	if err != nil {
		h.t.Errorf("ip netns pids %s: %v", h.Name, err)
	}
	return strings.Fields(string(out))
}

// Links lists the names of the hypervisor's network interfaces, without lo.
func (h *Hypervisor) Links() []string {
	h.t.Helper()
	var links []struct {
		Name string `json:"ifname"`
	}
	h.Exec("ip", "-j", "link").Want(0).JSON(&links)
	var names []string
	for _, l := range links {
		if l.Name != "lo" {
			names = append(names, l.Name)
		}
	}
	return names
}

// enter runs "$@" in the network namespace $1, with a /sys of that namespace (lxc looks up the bridge there) and the
// cgroups of the machine in it. "ip netns exec" hides the cgroups, "nsenter --net" alone keeps the wrong /sys.
const enter = `ns=$1; shift
d=$(mktemp -d /run/phxe2e-cg.XXXXXX)
mount --rbind /sys/fs/cgroup "$d"
exec nsenter --net=/run/netns/"$ns" sh -c '
d=$1; shift
mount -t sysfs sysfs /sys && mount --rbind "$d" /sys/fs/cgroup && umount -l "$d"
rmdir "$d"
exec "$@"' sh "$d" "$@"`

// inside is argv run on the hypervisor: in its network namespace and a mount namespace that goes with it.
func (h *Hypervisor) inside(argv []string) []string {
	return append([]string{"unshare", "--mount", "--propagation", "slave", "sh", "-ec", enter, "sh", h.Name}, argv...)
}

func (h *Hypervisor) argv(args []string) []string {
	return append([]string{h.bin, "--config", h.Config, "--root", h.Root, "--runtime", "lxc", "--no-color"}, args...)
}

// Phoenix runs one phoenix command and waits for its end.
func (h *Hypervisor) Phoenix(args ...string) Result {
	h.t.Helper()
	return h.Exec(h.argv(args)...)
}

// Exec runs any command on the hypervisor and waits for its end.
func (h *Hypervisor) Exec(argv ...string) Result {
	h.t.Helper()
	return h.exec(nil, argv)
}

// exec is Exec with a standard input; nil is an empty one.
func (h *Hypervisor) exec(in *os.File, argv []string) Result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	argv = h.inside(argv)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if in != nil {
		cmd.Stdin = in
	}
	// A leftover daemon that holds our pipes must not hold the test.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	start := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Errorf("%s: %v", strings.Join(argv, " "), err)
	}
	return Result{h.t, argv, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(start)}
}

// Kill starts a phoenix command and kills it with its children when the
// condition becomes true, as a power cut would. It fails the test if the
// condition does not become true in time.
func (h *Hypervisor) Kill(condition func() bool, args ...string) {
	h.t.Helper()
	argv := h.inside(h.argv(args))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // may have ended by itself
		_ = cmd.Wait()                                      // "signal: killed" is what was asked for
	}()
	if !await(Limit, condition) {
		h.t.Fatalf("phoenix %s: the moment to kill it never came", strings.Join(args, " "))
	}
}

// PowerOff ends a container without asking it.
func (h *Hypervisor) PowerOff(id string) {
	h.t.Helper()
	h.Exec("lxc-stop", "-P", filepath.Join(h.Root, "lxc"), "-n", id, "-k").Want(0)
}

// await polls condition, 2 ms apart, until it is true or limit has passed.
func await(limit time.Duration, condition func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for {
		if condition() {
			return true
		}
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
}

// Result is a command that has ended.
type Result struct {
	t              testing.TB
	Argv           []string
	Stdout, Stderr string
	Exit           int // -1: ended by a signal
	Took           time.Duration
}

// String has everything that a person needs to see what happened.
func (r Result) String() string {
	return fmt.Sprintf("$ %s\n%s%s(exit %d after %s)", strings.Join(r.Argv, " "), r.Stdout, r.Stderr, r.Exit,
		r.Took.Round(time.Millisecond))
}

// Want stops the test unless the command ended with this exit code.
func (r Result) Want(exit int) Result {
	r.t.Helper()
	if r.Exit != exit {
		r.t.Fatalf("want exit %d\n%s", exit, r)
	}
	return r
}

// JSON reads standard output into v.
func (r Result) JSON(v any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.Stdout), v); err != nil {
		r.t.Fatalf("not the JSON that was expected: %v\n%s", err, r)
	}
}

// Created is the output of create, apply and up with -o json.
type Created struct {
	Changes []struct {
		Address string `json:"address"`
		Action  string `json:"action"`
		Reason  string `json:"reason"`
	} `json:"changes"`
	Mutations int `json:"mutations"`
}

// WantNoChange runs create once more: nothing may be changed, nor any
// mutating call be made.
func (h *Hypervisor) WantNoChange(ids ...string) {
	h.t.Helper()
	var again Created
	r := h.Phoenix(append([]string{"create", "-o", "json"}, ids...)...).Want(0)
	r.JSON(&again)
	if again.Changes == nil || len(again.Changes) != 0 || again.Mutations != 0 {
		h.t.Errorf("a second run must change nothing\n%s", r)
	}
}

// WantHealthy runs the full check.
func (h *Hypervisor) WantHealthy(ids ...string) {
	h.t.Helper()
	var report struct {
		Healthy bool              `json:"healthy"`
		Checks  []json.RawMessage `json:"checks"`
	}
	r := h.Phoenix(append([]string{"health", "-o", "json"}, ids...)...).Want(0)
	r.JSON(&report)
	if !report.Healthy || len(report.Checks) == 0 {
		h.t.Errorf("exit 0, but not healthy or nothing checked\n%s", r)
	}
}
