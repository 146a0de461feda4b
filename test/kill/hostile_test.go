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
	"no-hello", "silent", "slow", "alive", "does-not-end", "reads-nothing", "unasked", "flood-of-life",
	"flood-of-answers", "flood-of-changes",
	"flood-of-wishes", "large", "deep", "escapes", "others", "fickle",
}

// hostileIDs are the containers of the table: 201 is the hostile one.
var hostileIDs = []string{"103", "101", "102", "201"}

const (
	agentLimit  = 2 * time.Second  // how long an agent may be silent in these tests
	hostileMost = 60 * time.Second // for any command, on a busy machine: what waits for ever is far beyond
	memoryMost  = 32 << 10         // KiB more than the same command takes with honest agents; seen: 2 MiB
	healMost    = 2 * time.Second  // until a container that was killed is up again, on a machine that is not busy
)

// honest is what the machine gives while all agents are: what commands and watch beside a hostile one are held against.
type honest struct {
	memory map[string]int64 // KiB, by command and of watch
	heal   time.Duration    // until a killed 101 is up again
}

// together are commands that change nothing; they go on at once. apart are those that do, in this order.
var (
	together = [][]string{
		{"plan"}, {"status"}, {"cert", "list"}, {"health"}, {"audit"}, {"events"}, {"ca", "backup"},
	}
	apart = [][]string{
		{"apply"}, {"start", "201"}, {"up"}, {"ca", "rotate", "--yes"}, {"restart", "201"}, {"stop", "201"},
		{"delete", "201", "--yes"},
	}
)

// outcomes are what a command does beside a hostile 201: the codes that it may end with, and whether it must name the
// container. An agent that lies where nobody can know better is believed about its own objects.
var outcomes = map[string]struct {
	exits []int
	names bool
}{
	"plan": {[]int{1}, true}, "status": {[]int{1}, true}, "cert list": {[]int{1}, true}, "health": {[]int{3}, true},
	"audit":  {[]int{0, 3}, true},
	"events": {[]int{1}, true}, "ca backup": {[]int{0, 1}, false}, "apply": {[]int{1}, true},
	"start 201": {[]int{1}, true}, "up": {[]int{1}, true},
	"ca rotate --yes": {[]int{1}, true}, "restart 201": {[]int{1}, true}, "stop 201": {[]int{0}, false},
	"delete 201 --yes": {[]int{0}, false},
}

// believed are the ways that are no more than a lie to these commands: what 201 says of itself is all that there is to
// know.
var believed = map[string][]string{
	"escapes": {"status", "cert list", "events", "audit"},
	"others":  {"plan", "status", "cert list", "events", "audit"},
	"fickle":  {"plan", "status", "cert list", "events", "audit"},
}

// Each way x each command: it ends, with a code and words that name the container, harmless on a terminal, and takes no
// memory to speak of. PHOENIX_HOSTILE names the ways to try.
func TestHostileAgent(t *testing.T) {
	if err := missing(); err != nil {
		t.Skip(err)
	}
	only := strings.Fields(os.Getenv("PHOENIX_HOSTILE"))
	ways := make(chan string)
	var group sync.WaitGroup
	var bar honest
	for i := range 4 { // most of the time each waits
		h := &hypervisor{name: fmt.Sprintf("%s-hostile-%d-%d", prefix(), os.Getpid(), i)}
		sites = append(sites, h)
		h.in(t).site(h)
		if i == 0 {
			bar = h.in(t).measure()
		}
		group.Go(func() {
			for way := range ways {
				t.Run(way, func(t *testing.T) { h.in(t).besides(way, bar) })
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

// measure tries all commands with honest agents.
func (h *hypervisor) measure() honest {
	h.t.Helper()
	h.honest()
	bar := honest{memory: map[string]int64{}}
	for i, c := range together {
		h.fair(bar, c, h.more(c, i))
	}
	bar.heal = h.heals(bar)
	for i, c := range apart {
		h.fair(bar, c, h.more(c, i))
	}
	h.t.Logf("with honest agents: %v KiB; 101 is up again after %s", bar.memory, bar.heal)
	return bar
}

// unable are the commands that need the files of a real CA. They end early, and so their measure is a strict one.
var unable = []string{"ca backup", "ca rotate --yes"}

// fair notes what a command takes with honest agents.
func (h *hypervisor) fair(bar honest, command, more []string) {
	h.t.Helper()
	name := strings.Join(command, " ")
	r, _, memory := h.timed(command, more)
	able := !slices.Contains(unable, name)
	if able && r.exit != 0 && r.exit != 3 { // a fake has nothing that could be healthy
		h.t.Errorf("%s: with honest agents: %s", name, r)
	}
	bar.memory[name] = memory
}

// besides tries all commands beside a hostile 201.
func (h *hypervisor) besides(way string, bar honest) {
	h.honest()
	h.write("hostile "+way, "agent.201")
	var group sync.WaitGroup
	for i, c := range together {
		group.Go(func() { h.cell(way, bar, c, h.more(c, i)) })
	}
	group.Wait()
	if best, most := h.heals(bar), max(healMost, 3*bar.heal); best > most {
		h.t.Errorf("watch: 101 is up again after %s, want at most %s: %s with honest agents", best, most, bar.heal)
	}
	for i, c := range apart {
		h.cell(way, bar, c, h.more(c, i))
	}
	if slices.Contains(hostileCAs, way) {
		h.hostileCA(way, bar)
	}
	if way == "fickle" {
		h.hostileCA("sealed", bar) // what begins as a backup
	}
}

// hostileCAs are the ways that are another thing where the CA is asked for a backup: the one answer is all that it can
// say.
var hostileCAs = []string{"no-hello", "silent", "slow", "alive", "does-not-end", "flood-of-answers", "large", "deep",
	"escapes", "others", "fickle"}

// hostileCA asks a hostile 103 for a backup: it ends, names the container, writes nothing, and the backup of before
// stays.
func (h *hypervisor) hostileCA(way string, bar honest) {
	h.t.Helper()
	h.write("hostile "+way, "agent.103")
	defer os.Remove(h.path("agent.103"))
	const before = "the backup of before"
	h.write(before, "backup")
	fresh := h.path("backup-" + way)
	command := []string{"ca", "backup"}
	for _, path := range []string{fresh, h.path("backup")} {
		r, took, memory := h.timed(command, []string{path, "--password-file", h.path("password")})
		said := r.stdout + r.stderr
		if r.exit != 1 || path == fresh && !strings.Contains(said, "container 103") {
			h.t.Errorf("ca backup of a hostile CA: want exit 1 and its name: %s", r)
		}
		if at := strings.IndexFunc(said, control); at >= 0 || !utf8.ValidString(said) ||
			strings.Contains(said, "curl http") {
			h.t.Errorf("ca backup of a hostile CA: %q", said)
		}
		if took > hostileMost || memory > bar.memory["ca backup"]+memoryMost {
			h.t.Errorf("ca backup of a hostile CA: %s, %d MiB", took, memory>>10)
		}
		h.t.Logf("%-18s exit %d, %5.1f s, %3d MiB", "ca backup of 103", r.exit, took.Seconds(), memory>>10)
	}
	if _, err := os.Lstat(fresh); !os.IsNotExist(err) {
		h.t.Errorf("%s: something was written to %s: %v", way, fresh, err)
	}
	if raw, err := os.ReadFile(h.path("backup")); err != nil || string(raw) != before {
		h.t.Errorf("%s: the backup of before became %q, %v", way, raw, err)
	}
}

func (h *hypervisor) more(c []string, i int) []string {
	if c[0] == "ca" && c[1] == "backup" {
		return []string{h.path(fmt.Sprintf("sealed-%d-%d", time.Now().UnixNano(), i)), "--password-file",
			h.path("password")}
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

// timed is one command, with how long it took and how many KiB of memory.
func (h *hypervisor) timed(command, more []string) (result, time.Duration, int64) {
	h.t.Helper()
	began := time.Now()
	p := h.start([]string{"PHX_AGENT_LIMIT=" + agentLimit.String()},
		append([]string{"-o", "text"}, append(slices.Clone(command), more...)...)...)
	r := p.wait()
	return r, time.Since(began), memory(h.t, p)
}

// memory is the most that a process had, in KiB, with what it waited for.
func memory(t *testing.T, p *process) int64 {
	t.Helper()
	usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		t.Fatal("nothing is known of the memory of what ended")
	}
	return usage.Maxrss
}

// cell is one way x one command.
func (h *hypervisor) cell(way string, bar honest, command, more []string) {
	name := strings.Join(command, " ")
	want := outcomes[name]
	r, took, memory := h.timed(command, more)
	said := r.stdout + r.stderr
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
	if at := strings.IndexFunc(said, control); at >= 0 || !utf8.ValidString(said) ||
		strings.Contains(said, "curl http") {
		h.t.Errorf("%s: what it says does something, or advises for the container: %q", name, said)
	}
	if memory > bar.memory[name]+memoryMost {
		h.t.Errorf("%s: it took %d MiB of memory, %d with honest agents", name, memory>>10, bar.memory[name]>>10)
	}
	h.t.Logf("%-18s exit %d, %5.1f s, %3d MiB (%+d)", name, r.exit, took.Seconds(), memory>>10,
		(memory-bar.memory[name])>>10)
}

func control(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r))
}

// heals kills 101 twice while watch runs, and gives the better time until it was up again.
func (h *hypervisor) heals(bar honest) time.Duration {
	h.t.Helper()
	w := h.start([]string{"PHX_AGENT_LIMIT=" + agentLimit.String()}, "-o", "text", "--timeout", "0", "watch")
	defer h.watched(w, bar)
	time.Sleep(time.Second) // its first round is under way, and a hostile 201 misbehaves
	best := hostileMost
	for range 2 {
		was := h.init("101")
		if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
			h.t.Fatal(err)
		}
		began := time.Now()
		for h.init("101") == was || h.init("101") == 0 {
			if time.Since(began) > 30*time.Second {
				h.t.Errorf("watch: 101 is not up again within 30 s: %s%s", w.stdout.String(), w.stderr.String())
				return best
			}
			time.Sleep(5 * time.Millisecond)
		}
		took := time.Since(began)
		h.t.Logf("%-18s 101 is up again after %.2f s", "watch", took.Seconds())
		best = min(best, took)
	}
	return best
}

// watched ends watch, and looks at what it said and took. That was not measured with honest agents where that is done
// now.
func (h *hypervisor) watched(w *process, bar honest) {
	h.t.Helper()
	_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	began := time.Now()
	r := w.wait()
	if took := time.Since(began); r.exit != 0 || took > hostileMost {
		h.t.Errorf("watch: told to stop, after %s: %s", took, r)
	}
	if said := r.stdout + r.stderr; strings.ContainsFunc(said, control) || strings.Contains(said, "curl http") {
		h.t.Errorf("watch: %q", said)
	}
	fair, known := bar.memory["watch"]
	took := memory(h.t, w)
	if !known {
		bar.memory["watch"] = took
	} else if took > fair+memoryMost {
		h.t.Errorf("watch: it took %d MiB of memory, %d with honest agents", took>>10, fair>>10)
	}
	h.t.Logf("%-18s %3d MiB", "watch", took>>10)
}

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
