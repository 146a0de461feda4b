package kill

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// hostileWays are those in which the agent of container 201 is hostile (test/kill/fakes/hostile.go).
var hostileWays = []string{
	"no-hello", "silent", "slow", "alive", "does-not-end", "reads-nothing", "unasked", "flood-of-life", "flood-of-answers", "flood-of-changes",
	"flood-of-wishes", "large", "deep", "escapes", "others", "fickle",
}

// hostileIDs are the containers of the table: 201 is the hostile one.
var hostileIDs = []string{"103", "101", "102", "201"}

const (
	agentLimit  = 2 * time.Second  // how long an agent may be silent in these tests
	hostileMost = 60 * time.Second // for any command, on a busy machine: what waits for ever is far beyond
	memoryMost  = 32 << 10         // KiB more than with honest agents
)

// together are commands that change nothing; they go on at once. apart are those that do, in this order.
var (
	together = [][]string{
		{"plan"}, {"status"}, {"cert", "list"}, {"health"}, {"audit"}, {"events"}, {"ca", "backup"},
	}
	apart = [][]string{
		{"apply"}, {"start", "201"}, {"up"}, {"ca", "rotate", "--yes"}, {"restart", "201"}, {"stop", "201"}, {"delete", "201", "--yes"},
	}
)

// outcomes are what a command does beside a hostile 201: the codes that it may end with, and whether it must name the container. An
// agent that lies where nobody can know better is believed about its own objects.
var outcomes = map[string]struct {
	exits []int
	names bool
}{
	"plan": {[]int{1}, true}, "status": {[]int{1}, true}, "cert list": {[]int{1}, true}, "health": {[]int{3}, true}, "audit": {[]int{0, 3}, true},
	"events": {[]int{1}, true}, "ca backup": {[]int{0, 1}, false}, "apply": {[]int{1}, true}, "start 201": {[]int{1}, true}, "up": {[]int{1}, true},
	"ca rotate --yes": {[]int{1}, true}, "restart 201": {[]int{1}, true}, "stop 201": {[]int{0}, false}, "delete 201 --yes": {[]int{0}, false},
}

// believed are the ways that are no more than a lie to these commands: what 201 says of itself is all that there is to know.
var believed = map[string][]string{
	"escapes": {"status", "cert list", "events", "audit"},
	"others":  {"plan", "status", "cert list", "events", "audit"},
	"fickle":  {"plan", "status", "cert list", "events", "audit"},
}

// Each way x each command: it ends, with a code and words that name the container, harmless on a terminal, and takes no memory to speak
// of. PHOENIX_HOSTILE names the ways to try.
func TestHostileAgent(t *testing.T) {
	if err := missing(); err != nil {
		t.Skip(err)
	}
	only := strings.Fields(os.Getenv("PHOENIX_HOSTILE"))
	ways := make(chan string)
	var group sync.WaitGroup
	for i := range 3 {
		h := &hypervisor{name: fmt.Sprintf("%s-hostile-%d-%d", prefix(), os.Getpid(), i)}
		sites = append(sites, h)
		h.in(t).site(h)
		group.Go(func() {
			for way := range ways {
				t.Run(way, func(t *testing.T) { h.in(t).besides(way) })
			}
		})
	}
	for _, way := range hostileWays {
		if len(only) == 0 || slices.Contains(only, way) {
			ways <- way
		}
	}
	close(ways)
	group.Wait()
}

func prefix() string {
	if p := os.Getenv("PHOENIX_TEST_PREFIX"); p != "" {
		return p
	}
	return "phx"
}

// site makes the hypervisor with all containers, and notes what the commands need with honest agents.
func (h *hypervisor) site(whole *hypervisor) {
	h.t.Helper()
	var err error
	if h.base, err = os.MkdirTemp("", "phxkill-"); err != nil {
		h.t.Fatal(err)
	}
	whole.base = h.base
	h.command("mount", "-t", "tmpfs", "-o", "mode=0711", "phxkill", h.base)
	h.command("ip", "netns", "add", h.name)
	h.command("ip", "-n", h.name, "link", "set", "lo", "up")
	h.build()
	h.reset()
	for _, id := range hostileIDs {
		h.write("", "env."+id)
	}
	h.write("a password that is long enough\n", "password")
}

// besides tries all commands beside a hostile 201.
func (h *hypervisor) besides(way string) {
	h.honest()
	h.write("hostile "+way, "agent.201")
	var group sync.WaitGroup
	for i, c := range together {
		group.Go(func() { h.cell(way, c, h.more(c, i)) })
	}
	group.Wait()
	h.heals(way)
	for i, c := range apart {
		h.cell(way, c, h.more(c, i))
	}
}

func (h *hypervisor) more(c []string, i int) []string {
	if c[0] == "ca" && c[1] == "backup" {
		return []string{h.path(fmt.Sprintf("sealed-%d-%d", time.Now().UnixNano(), i)), "--password-file", h.path("password")}
	}
	return nil
}

// honest brings all containers back, with agents that do what they should.
func (h *hypervisor) honest() {
	h.t.Helper()
	if err := os.Remove(h.path("agent.201")); err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	if r := h.phoenix(nil, append([]string{"create"}, hostileIDs...)...); r.exit != 0 {
		h.t.Fatalf("with honest agents: %s", r)
	}
}

// cell is one way x one command.
func (h *hypervisor) cell(way string, command, more []string) {
	name := strings.Join(command, " ")
	want := outcomes[name]
	began := time.Now()
	p := h.start([]string{"PHX_AGENT_LIMIT=" + agentLimit.String()}, append([]string{"-o", "text"}, append(slices.Clone(command), more...)...)...)
	r := p.wait()
	took := time.Since(began)
	said := r.stdout + r.stderr
	usage, _ := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if took > hostileMost {
		h.t.Errorf("%s: it took %s", name, took)
	}
	lie := slices.Contains(believed[way], name)
	if !lie && !slices.Contains(want.exits, r.exit) || lie && r.exit > 3 {
		h.t.Errorf("%s: want exit %v: %s", name, want.exits, r)
	}
	if want.names && !lie && !strings.Contains(said, "201") {
		h.t.Errorf("%s: it does not name the container: %s", name, r)
	}
	if at := strings.IndexFunc(said, control); at >= 0 || !utf8.ValidString(said) || strings.Contains(said, "curl http") {
		h.t.Errorf("%s: what it says does something, or advises for the container: %q", name, said)
	}
	if usage != nil && usage.Maxrss > baseline+memoryMost {
		h.t.Errorf("%s: it took %d MiB of memory", name, usage.Maxrss>>10)
	}
	h.t.Logf("%-18s exit %d, %5.1f s, %3d MiB", name, r.exit, took.Seconds(), usage.Maxrss>>10)
}

// baseline is what commands take with honest agents on one that has all containers, in KiB; measured: 26 to 40 MiB.
const baseline = 40 << 10

func control(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
}

// heals wants a killed 101 to be up again while 201 is hostile and watch runs.
func (h *hypervisor) heals(way string) {
	w := h.start([]string{"PHX_AGENT_LIMIT=" + agentLimit.String()}, "-o", "text", "--timeout", "0", "watch")
	defer func() {
		_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		began := time.Now()
		r := w.wait()
		if took := time.Since(began); r.exit != 0 || took > hostileMost {
			h.t.Errorf("watch: told to stop, after %s: %s", took, r)
		}
		if said := r.stdout + r.stderr; strings.ContainsFunc(said, control) || strings.Contains(said, "curl http") {
			h.t.Errorf("watch: %q", said)
		}
		if usage, ok := w.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && usage.Maxrss > baseline+memoryMost {
			h.t.Errorf("watch: it took %d MiB of memory", usage.Maxrss>>10)
		}
	}()
	time.Sleep(time.Second) // its first round is under way, and 201 misbehaves
	var took []time.Duration
	for range 2 {
		was := h.init("101")
		if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
			h.t.Fatal(err)
		}
		began := time.Now()
		for h.init("101") == was || h.init("101") == 0 {
			if time.Since(began) > 30*time.Second {
				h.t.Errorf("watch: 101 is not up again within 30 s: %s%s", w.stdout.String(), w.stderr.String())
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		took = append(took, time.Since(began))
	}
	h.t.Logf("%-18s 101 is up again after %v", "watch", took)
	if best := slices.Min(took); best > healMost {
		h.t.Errorf("watch: 101 is up again after %v", took)
	}
}

// healMost is 2 s, and what a busy machine adds.
const healMost = 5 * time.Second

// init is the process of a container's init; 0: it does not run.
func (h *hypervisor) init(id string) int {
	raw, err := os.ReadFile(h.path("pids", id))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil || strings.Contains(string(stat), ") Z ") {
		return 0
	}
	return pid
}
