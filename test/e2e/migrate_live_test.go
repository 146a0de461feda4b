package e2e

import (
	"crypto/x509"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// everyone are the containers of the old layout.
var everyone = []string{"103", "101", "102", "201"}

// callDuring lets a client call while do is at work.
func (o *oldLayout) callDuring(do func()) *caller {
	c := &caller{h: o.Hypervisor, root: o.root, serials: map[string]bool{}}
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { c.during(gateway, stop) })
	do()
	close(stop)
	all.Wait()
	return c
}

// works waits until the old house answers.
func (o *oldLayout) works() {
	o.t.Helper()
	c := &caller{h: o.Hypervisor, root: o.root, serials: map[string]bool{}}
	if !await(30*time.Second, func() bool { return c.request(gateway) == nil }) {
		o.t.Fatalf("the old house does not work: %v", c.request(gateway))
	}
}

func (o *oldLayout) live(args ...string) []string {
	return append([]string{"migrate", "--live", "--from", o.lxc}, args...)
}

// moved is what must be true at the end, whatever happened on the way.
func (o *oldLayout) moved() {
	o.t.Helper()
	await(30*time.Second, func() bool { return o.Phoenix("health", "-q").Exit == 0 }) // daemons settle
	o.WantHealthy()
	o.Phoenix("plan", "--detailed-exitcode").Want(0)
	o.WantNoChange(everyone...)
	if root := o.RootCertificate(); !root.Equal(o.root) {
		o.t.Errorf("the CA has another root: %s, was %s", fingerprint(root), fingerprint(o.root))
	}
	o.newKeys()
	for _, id := range everyone[:3] {
		if r := o.in(id, "cat /proc/1/mountinfo"); strings.Contains(r.Stdout, "/persistent/103/ssl") {
			o.t.Errorf("container %s still sees the shared directory\n%s", id, r)
		}
		if raw, err := os.ReadFile(filepath.Join(o.lxc, id, "config")); err != nil ||
			strings.Contains(string(raw), o.shared) {
			o.t.Errorf("container %s is still defined to see the shared directory: %v\n%s", id, err, raw)
		}
	}
	for _, f := range o.sharing() {
		o.t.Errorf("found after the migration: %s", f)
	}
}

// sharing are the findings of the audit that this is about: shared directories, and keys and directories that others
// can read.
func (o *oldLayout) sharing() []string {
	o.t.Helper()
	var a Audited
	o.Phoenix("audit", "-o", "json").JSON(&a)
	var out []string
	for _, f := range a.Findings {
		if slices.Contains([]string{"PHX-AUD-001", "PHX-AUD-002", "PHX-AUD-003", "PHX-AUD-004", "PHX-AUD-050",
			"PHX-AUD-052", "PHX-AUD-053", "PHX-AUD-054", "PHX-AUD-070"}, f.Rule) &&
			!strings.Contains(f.Summary, o.shared) && !strings.Contains(f.Summary, "/usr/share") {
			out = append(out, f.Rule+" "+f.Object+": "+f.Summary)
		}
	}
	return out
}

// newKeys wants that nobody serves a key that lay in the shared directory, nor the old intermediate.
func (o *oldLayout) newKeys() {
	o.t.Helper()
	for _, address := range []string{gateway, "10.86.17.102:443"} {
		chain, err := o.chain(address)
		if err != nil {
			o.t.Errorf("%s: %v", address, err)
			continue
		}
		for _, c := range chain {
			if slices.ContainsFunc(o.old, func(x *x509.Certificate) bool {
				return !x.Equal(o.root) && slices.Equal(x.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
			}) {
				o.t.Errorf("%s serves a key that leaked: %s", address, c.Subject)
			}
		}
	}
}

// A house as the old scripts left it is moved while a client calls: no request fails, the root stays, what leaked is
// new, and afterwards nothing is left to do.
func TestMigrateLive(t *testing.T) {
	beside(t)
	o := newOldLayout(t, nil)
	o.works()
	o.audit(3)
	t.Logf("audit before:\n%s", o.Phoenix("audit").Stdout)
	t.Logf("health before:\n%s", o.Phoenix("health").Want(78)) // a shared directory is refused
	before, err := os.ReadFile(filepath.Join(o.Config, "phoenix_lxc_configs.json"))
	if err != nil {
		t.Fatal(err)
	}
	r := o.Phoenix(o.live()...).Want(0)
	t.Logf("the plan:\n%s", r.Stdout)
	var doc struct {
		Steps []struct {
			Step string `json:"step"`
			Done bool   `json:"done"`
		} `json:"steps"`
		Leaked []map[string]any `json:"leaked"`
		Made   bool             `json:"made"`
	}
	o.Phoenix(o.live("-o", "json")...).Want(0).JSON(&doc)
	if len(doc.Steps) < 10 || len(doc.Leaked) < 7 || doc.Made || doc.Steps[0].Done {
		t.Errorf("the plan as JSON: %+v", doc)
	}
	if now, err := os.ReadFile(filepath.Join(o.Config, "phoenix_lxc_configs.json")); err != nil ||
		string(now) != string(before) {
		t.Errorf("a plan changed the configuration: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Root, "migration")); err == nil {
		t.Error("a plan wrote a journal")
	}
	pid := o.Exec("lxc-info", "-P", o.lxc, "-n", "101", "-p", "-H").Stdout
	c := o.callDuring(func() { r = o.Phoenix(o.live("--yes")...) })
	t.Log(r)
	r.Want(0)
	t.Logf("%d requests, %d failed, the slowest took %s", c.requests, len(c.failed), c.slowest.Round(time.Millisecond))
	if len(c.failed) > 0 {
		t.Errorf("failed requests: %s", strings.Join(c.failed, "; "))
	}
	if now := o.Exec("lxc-info", "-P", o.lxc, "-n", "101", "-p", "-H").Stdout; now != pid {
		t.Errorf("the gateway was restarted: %s, was %s", now, pid)
	}
	o.moved()
	t.Logf("audit after:\n%s", o.Phoenix("audit").Stdout)
	o.Phoenix(o.live("--yes")...).Want(0)
	// Another start gives the same, with the definition's limits.
	o.Phoenix("restart", "101").Want(0)
	o.moved()
	t.Run("new root", func(t *testing.T) { o.replaceRoot(t) })
}

// replaceRoot is the last that can be done about what leaked. Asked for again it is not done again.
func (o *oldLayout) replaceRoot(t *testing.T) {
	t.Log(o.Phoenix(o.live("--new-root")...).Want(0).Stdout)
	t.Log(o.Phoenix(o.live("--new-root", "--yes")...).Want(0).Stdout)
	root := o.RootCertificate()
	if root.Equal(o.root) {
		t.Error("it is the old root")
	}
	var doc struct {
		Leaked []struct {
			Path   string `json:"path"`
			Mended bool   `json:"mended"`
		} `json:"leaked"`
	}
	o.Phoenix(o.live("--new-root", "--yes", "-o", "json")...).Want(0).JSON(&doc)
	for _, l := range doc.Leaked {
		if !l.Mended {
			t.Errorf("still open: %s", l.Path)
		}
	}
	if again := o.RootCertificate(); len(doc.Leaked) == 0 || !again.Equal(root) {
		t.Error("a second run made yet another root")
	}
	o.WantHealthy()
	o.Phoenix("plan", "--detailed-exitcode").Want(0)
}

// Killed at random moments, again and again, it ends the same; so does the way back. When the old directory is emptied
// there is none.
func TestMigrateLiveKilled(t *testing.T) {
	beside(t)
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("PHOENIX_KILL_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("PHOENIX_KILL_SEED=%d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	o := newOldLayout(t, nil)
	o.works()
	files := map[string]string{}
	for _, id := range everyone {
		files[id] = o.tree(id)
	}
	c := o.callDuring(func() {
		// Half moved, they are nobody else's.
		o.Kill(func() bool {
			// Until the configuration is rewritten that is what every command refuses.
			raw, err := os.ReadFile(filepath.Join(o.Config, "phoenix_lxc_configs.json"))
			return err == nil && !strings.Contains(string(raw), o.shared)
		}, o.live("--yes")...)
		if r := o.Phoenix("create", "101").Want(1); !strings.Contains(r.Stderr, "is on its way to the new layout") {
			t.Errorf("in the middle of a migration\n%s", r)
		}
		o.killing(draw, 10, 12, o.live("--yes"))
		o.Phoenix(o.live("--yes")...).Want(0)
	})
	t.Logf("%d requests, %d failed, the slowest took %s", c.requests, len(c.failed), c.slowest.Round(time.Millisecond))
	if len(c.failed) > 0 {
		t.Errorf("failed requests: %s", strings.Join(c.failed, "; "))
	}
	o.moved()

	o.killing(draw, 4, 1, o.live("--rollback", "--yes"))
	t.Log(o.Phoenix(o.live("--rollback", "--yes")...).Want(0))
	o.back(files)

	o.Phoenix(o.live("--yes")...).Want(0)
	o.moved()
	o.Phoenix(o.live("--shred")...).Want(0)
	if names, err := os.ReadDir(o.shared); err != nil || len(names) == 0 {
		t.Errorf("without --yes it was emptied: %v", err)
	}
	o.killing(draw, 2, 0, o.live("--shred", "--yes"))
	t.Log(o.Phoenix(o.live("--shred", "--yes")...).Want(0))
	if names, err := os.ReadDir(o.shared); err != nil || len(names) > 0 {
		t.Errorf("the shared directory is not empty: %v %v", names, err)
	}
	if r := o.Phoenix(o.live("--rollback", "--yes")...).Want(1); !strings.Contains(r.Stderr, "there is no way back") {
		t.Errorf("rollback after the end\n%s", r)
	}
	// There is no way back any more that other ids would close: each container gets its own.
	o.Phoenix("apply", "--yes").Want(0)
	o.moved()
}

// Where the configuration asks for firewalls they stand at the end, and were in nobody's way.
func TestMigrateLiveFirewalled(t *testing.T) {
	beside(t)
	o := newOldLayout(t, map[string]string{
		"nginx":   `{"type": "in", "action": "ACCEPT", "proto": "tcp", "port": "80"}, {"type": "in", "action": "ACCEPT", "proto": "tcp", "port": "443"}`,
		"traefik": `{"type": "in", "action": "ACCEPT", "proto": "tcp", "port": "443", "source": "10.86.17.101"}`,
		"step-ca": `{"type": "in", "action": "ACCEPT", "proto": "tcp", "port": "9000", "source": "10.86.17.102"}`,
	})
	o.works()
	c := o.callDuring(func() { t.Log(o.Phoenix(o.live("--yes")...).Want(0)) })
	t.Logf("%d requests, %d failed, the slowest took %s", c.requests, len(c.failed), c.slowest.Round(time.Millisecond))
	if len(c.failed) > 0 {
		t.Errorf("failed requests: %s", strings.Join(c.failed, "; "))
	}
	o.WantHealthy()
	o.Phoenix("plan", "--detailed-exitcode").Want(0)
	if _, err := o.chain("10.86.17.102:443"); err == nil {
		t.Error("the proxy is reached by others than the gateway: is there no firewall?")
	}
	t.Run("delete", o.removeAll)
}

// removeAll leaves the old directory and nothing else, also where containers were taken over.
func (o *oldLayout) removeAll(t *testing.T) {
	if r := o.Phoenix("delete", "201", "--yes").Want(0); !strings.Contains(r.Stdout, "create makes it there again") {
		t.Errorf("not a word on where it was\n%s", r)
	}
	if r := o.Phoenix(o.live("--rollback", "--yes")...).Want(1); !strings.Contains(r.Stderr,
		"container 201 was deleted") {
		t.Errorf("the way back without a container\n%s", r)
	}
	o.Phoenix("create", "201").Want(0)
	if _, err := os.Stat(filepath.Join(o.lxc, "201", "config")); err != nil {
		t.Errorf("it was not made where it was: %v", err)
	}
	before, err := os.ReadDir(o.shared)
	if err != nil || len(before) == 0 {
		t.Fatalf("the old directory: %v %v", before, err)
	}
	t.Log(o.Phoenix("delete", "--all", "--volumes=103", "--yes").Want(0))
	if _, err := os.Stat(o.Root); !os.IsNotExist(err) {
		t.Errorf("the root directory is left (%v)\n%s", err, o.Exec("find", o.Root))
	}
	if left, err := os.ReadDir(o.lxc); err != nil || len(left) > 0 {
		t.Errorf("left of the containers that were taken over: %v %v", left, err)
	}
	if after, err := os.ReadDir(o.shared); err != nil || len(after) != len(before) {
		t.Errorf("the old directory is not as it was: %v %v", after, err)
	}
	if pids := o.Processes(); len(pids) != 0 {
		t.Errorf("processes are left: %v\n%s", pids, o.Exec("ps", "-fp", strings.Join(pids, ",")))
	}
}

// killing kills a command as often, each time when it has said up to so many lines and a moment later: how far it comes
// does not depend on how busy the machine is.
func (o *oldLayout) killing(draw *rand.Rand, times, lines int, args []string) {
	o.t.Helper()
	for range times {
		n, moment := draw.IntN(lines+1), time.Duration(draw.Int64N(int64(500*time.Millisecond)))
		o.t.Logf("%s killed after %d lines and %s: %s", strings.Join(args[4:], " "), n, moment.Round(time.Millisecond),
			o.killed(n, moment, args))
	}
}

// killed kills phoenix and all that it has started, and tells the last that it said.
func (o *oldLayout) killed(lines int, moment time.Duration, args []string) string {
	o.t.Helper()
	out, err := os.CreateTemp(o.t.TempDir(), "")
	if err != nil {
		o.t.Fatal(err)
	}
	defer out.Close()
	said := func() []string {
		raw, err := os.ReadFile(out.Name())
		if err != nil {
			o.t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(raw)), "\n")
	}
	cmd := o.start(args, out)
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // "signal: killed" is what is asked for
	await(Limit, func() bool {
		select {
		case <-ended:
			return true
		default:
			return len(said()) > lines
		}
	})
	time.Sleep(moment)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // may have ended by itself
	<-ended
	all := said()
	return all[len(all)-1]
}

// tree is what a rollback has to bring back in a container.
func (o *oldLayout) tree(id string) string {
	o.t.Helper()
	const list = `cd / && find etc usr/local -path etc/step-ca/ssl -prune -o ! -path 'etc/resolv.conf' \( -type f -printf '%p %m %U %G ' -exec sha256sum '{}' \; -o -type l -printf '%p -> %l\n' \) | sort`
	return o.in(id, list).Want(0).Stdout
}

// back is the old layout again.
func (o *oldLayout) back(files map[string]string) {
	o.t.Helper()
	o.works()
	for _, id := range everyone {
		if now := o.tree(id); now != files[id] {
			o.t.Errorf("container %s has other files than before:\n%s", id, difference(files[id], now))
		}
		raw, err := os.ReadFile(filepath.Join(o.lxc, id, "config"))
		if err != nil || strings.Contains(string(raw), "phoenix") {
			o.t.Errorf("container %s has not its old definition: %v\n%s", id, err, raw)
		}
	}
	for _, path := range []string{filepath.Join(o.Root, "migration"), filepath.Join(o.Root, "pins", "103"),
		filepath.Join(o.Root, "lxc", "101")} {
		if _, err := os.Lstat(path); err == nil {
			o.t.Errorf("%s was left", path)
		}
	}
	o.Phoenix("health").Want(78) // the shared directory is in the configuration again
	chain, err := o.chain(gateway)
	if err != nil || !slices.ContainsFunc(o.old, chain[0].Equal) {
		o.t.Errorf("the gateway does not serve its old certificate: %v", err)
	}
}

func difference(a, b string) string {
	old := strings.Split(a, "\n")
	var out []string
	for line := range strings.SplitSeq(b, "\n") {
		if !slices.Contains(old, line) {
			out = append(out, "+ "+line)
		}
	}
	for _, line := range old {
		if !slices.Contains(strings.Split(b, "\n"), line) {
			out = append(out, "- "+line)
		}
	}
	return strings.Join(out, "\n")
}
