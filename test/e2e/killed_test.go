package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// killPoints is how many kill points one run draws, at least; PHOENIX_KILL_SEED draws the same ones again.
const killPoints = 12

// insideCalls is where the phoenix in a container writes down its changes.
const insideCalls = "/root/phoenix-calls"

// killPoint is a change, and what dies there. See test/kill/phoenix.
type killPoint struct {
	where string // a container's id: the agent in there; empty: the hypervisor's phoenix
	what  string
	nth   int
	after bool
	both  bool // where it is an agent: the hypervisor's phoenix ends with it
}

func (p killPoint) String() string {
	who := map[bool]string{true: "phoenix", false: "agent " + p.where}[p.where == ""]
	if p.both {
		who += " and phoenix"
	}
	return fmt.Sprintf("%s, %s (%d) %.100s", who, map[bool]string{true: "after", false: "before"}[p.after],
		p.nth, p.what)
}

// attachShim gives the phoenix inside its environment, which lxc-attach does not let through, and takes the
// hypervisor's phoenix with it where the one inside was killed (137 is 128 and SIGKILL).
const attachShim = `#!/bin/sh
case "$*" in *" agent serve"*) ;; *) exec REAL "$@" ;; esac
path=$2 id=$4
shift 5 # -P PATH -n ID --clear-env
while read -r v; do set -- -v "$v" "$@"; done <STATE/env.$id
REAL -P "$path" -n "$id" --clear-env "$@"
code=$?
if [ $code = 137 ] && [ -e STATE/both ]; then kill -KILL $PPID; fi
exit $code
`

// killable is a hypervisor whose phoenix can be told where to die.
type killable struct {
	*Hypervisor
	state string
}

func newKillable(t *testing.T) *killable {
	t.Helper()
	h := New(t, homelab())
	k := &killable{Hypervisor: h, state: filepath.Join(filepath.Dir(h.Root), "kill")}
	h.bin = filepath.Join(k.state, "phoenix")
	if _, err := tool(append(os.Environ(), "CGO_ENABLED=0"), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o",
		h.bin, "./test/kill/phoenix"); err != nil {
		t.Fatal(err)
	}
	real, err := exec.LookPath("lxc-attach")
	if err != nil {
		t.Fatal(err)
	}
	shim := strings.NewReplacer("REAL", real, "STATE", k.state).Replace(attachShim)
	if err := os.Mkdir(filepath.Join(k.state, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(k.state, "bin", "lxc-attach"), []byte(shim), 0o755); err != nil {
		t.Fatal(err)
	}
	return k
}

// run is create, dying at p, or only writing down what it does where p is none.
func (k *killable) run(p killPoint) Result {
	k.t.Helper()
	both := filepath.Join(k.state, "both")
	if err := os.RemoveAll(both); err != nil {
		k.t.Fatal(err)
	}
	if p.both {
		k.write(both, "")
	}
	argv := []string{"env", "PATH=" + filepath.Join(k.state, "bin") + ":" + os.Getenv("PATH")}
	for _, id := range []string{"", "103", "101", "102"} {
		env := []string{"PHX_CALLS=" + insideCalls, "PHX_BASE=" + filepath.Dir(k.Root)}
		if id == "" {
			env[0] = "PHX_CALLS=" + k.calls("")
		}
		if p.where == id && p.what != "" {
			env = append(env, "PHX_AT="+p.what, "PHX_FAULT=kill", "PHX_NTH="+strconv.Itoa(p.nth))
			if p.after {
				env = append(env, "PHX_AFTER=1")
			}
		}
		if id == "" {
			argv = append(argv, env...)
			continue
		}
		k.write(filepath.Join(k.state, "env."+id), strings.Join(env, "\n")+"\n")
	}
	return k.Exec(append(argv, k.argv([]string{"create", "103", "101", "102"})...)...)
}

func (k *killable) write(path, text string) {
	k.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

// calls is where the changes of one phoenix stand, as the hypervisor sees it.
func (k *killable) calls(id string) string {
	if id == "" {
		return filepath.Join(k.state, "calls")
	}
	return filepath.Join(k.Root, "lxc", id, "rootfs", insideCalls)
}

// nothing leaves what this machine has in common for all: the template.
func (k *killable) nothing() {
	k.t.Helper()
	for _, id := range []string{"103", "101", "102"} { // one that does not run is no fault
		k.Exec("lxc-stop", "-P", filepath.Join(k.Root, "lxc"), "-n", id, "-k")
	}
	k.Phoenix("delete", "103", "101", "102", "--volumes=103", "--yes").Want(0)
	for _, path := range []string{k.calls(""), k.calls("") + ".struck", filepath.Join(k.Root, "pins")} {
		if err := os.RemoveAll(path); err != nil {
			k.t.Fatal(err)
		}
	}
}

// points are all changes of a run from nothing, by who makes them.
func (k *killable) points(id string) (points []killPoint) {
	k.t.Helper()
	raw, err := os.ReadFile(k.calls(id))
	if err != nil {
		k.t.Fatal(err)
	}
	seen := map[string]int{}
	for what := range strings.Lines(string(raw)) {
		what = strings.TrimSuffix(what, "\n")
		seen[what]++
		for _, after := range []bool{false, true} {
			points = append(points, killPoint{where: id, what: what, nth: seen[what], after: after})
		}
	}
	return points
}

// On real containers: a random sample of all kill points, from nothing each. A third dies on the hypervisor, a third is
// an agent alone, in the rest an agent and phoenix die together.
func TestKilledAnywhere(t *testing.T) {
	beside(t)
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("PHOENIX_KILL_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("PHOENIX_KILL_SEED=%d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	k := newKillable(t)
	k.Phoenix("create", "900").Want(0)
	k.nothing()
	k.run(killPoint{}).Want(0)
	k.settled(t)
	own, inside := k.points(""), slices.Concat(k.points("103"), k.points("101"), k.points("102"))
	t.Logf("%d kill points on the hypervisor, %d inside", len(own), len(inside))

	struck, tries := 0, 0
	for ; struck < killPoints && tries < 2*killPoints; tries++ {
		p := own[draw.IntN(len(own))]
		if struck%3 > 0 {
			p = inside[draw.IntN(len(inside))]
			p.both = struck%3 == 2
		}
		start := time.Now()
		k.nothing()
		if k.strike(t, p) {
			struck++
			t.Logf("%s: %s", p, time.Since(start).Round(100*time.Millisecond))
		}
		if t.Failed() {
			t.Fatalf("at %s", p)
		}
	}
	if struck < killPoints {
		t.Errorf("%d of %d points were reached: want %d", struck, tries, killPoints)
	}
}

// strike kills at p, runs create again and wants the same end. false: another order of parallel changes, p was not
// reached.
func (k *killable) strike(t *testing.T, p killPoint) bool {
	t.Helper()
	r := k.run(p)
	if _, err := os.Stat(k.calls(p.where) + ".struck"); err != nil {
		if r.Exit != 0 {
			t.Fatalf("not killed, and failed\n%s", r)
		}
		return false
	}
	if alone := p.where != "" && !p.both; alone && r.Exit != 0 || !alone && r.Exit != -1 {
		t.Errorf("killed at %s\n%s", p, r)
	}
	pinned, err := os.ReadFile(filepath.Join(k.Root, "pins", "103"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if r := k.Phoenix("create", "103", "101", "102"); r.Exit != 0 {
		t.Fatalf("after the kill at %s\n%s", p, r)
	}
	k.settled(t)
	if root := fingerprint(k.RootCertificate()); len(pinned) > 0 && root != strings.TrimSpace(string(pinned)) {
		t.Errorf("killed at %s: the CA has another root, %s was pinned, now %s", p, pinned, root)
	}
	return true
}

// settled is healthy, with nothing left to do.
func (k *killable) settled(t *testing.T) {
	t.Helper()
	k.WantHealthy("103", "101", "102")
	k.Phoenix("plan", "--detailed-exitcode", "103", "101", "102").Want(0)
	k.WantNoChange("103", "101", "102")
}
