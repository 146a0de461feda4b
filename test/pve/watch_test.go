package pve

import (
	"cmp"
	"fmt"
	"net"
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

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
)

// Proxmox's own time, in the stand-in: what a call takes before it does anything, and a monitor after the end of
// its container's init.
const (
	callCost = 500 * time.Millisecond
	postStop = time.Second
	settled  = 600 * time.Millisecond
)

// fault is something that is broken while watch runs.
type fault struct {
	name string
	do   func(f *watched)
	// told is what the events must say before the person comes; what only a person can do comes after that, and is
	// timed from then on.
	told   string
	person func(f *watched)
	lasts  time.Duration // how long the fault lasts until then: failures are left alone longer each time
	// quiet: nobody has to repair anything, so that no event says so.
	quiet bool
}

// watched is a host on which watch runs. Its /etc/pve is a file system in user space as on a real one, so that what
// other nodes write in it is told to nobody here: inotify hears of what is changed through the mount only.
type watched struct {
	*hypervisor
	watch *exec.Cmd
	fuse  *exec.Cmd // the file system of /etc/pve
	whole []string  // the state that is wanted
	begun time.Time // when the present fault was made, or the person had done his part
	// floor is what phoenix takes on this machine, busy as it is, to look at everything once.
	floor time.Duration
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	h := newHost(t)
	if _, err := exec.LookPath("bindfs"); err != nil {
		t.Skip("needs bindfs: run make test-deps")
	}
	h.reset()
	f := &watched{hypervisor: h}
	h.write("[OPTIONS]\n\nenable: 1\n", "pve", "firewall", "cluster.fw")
	h.write(`{"version": 1, "ids": {}}`, "pve", ".vmlist")
	f.must(os.Rename(h.path("pve"), f.cluster()))
	f.mount()
	f.must(os.Rename(h.path("zfs"), h.path("pool")))
	f.must(os.Mkdir(h.path("zfs"), 0o755))
	h.command("mount", "--bind", h.path("pool"), h.path("zfs"))
	t.Cleanup(func() {
		h.end()
		h.command("umount", "--lazy", h.path("zfs"))
		f.unmount()
	})
	h.changes(0, append([]string{"create"}, ids...)...)
	h.write(callCost.String(), "call-cost")
	h.write(postStop.String(), "post-stop")
	h.write("", "times")
	f.start()
	t.Cleanup(f.stop)
	return f
}

// cluster is where the other nodes change what is in /etc/pve.
func (f *watched) cluster(parts ...string) string {
	return f.path(append([]string{"pmxcfs"}, parts...)...)
}

func (f *watched) mount() {
	f.t.Helper()
	f.must(os.MkdirAll(f.path("pve"), 0o755))
	if left, err := os.ReadDir(f.path("pve")); err != nil || len(left) > 0 { // pmxcfs would not mount over it
		f.t.Fatalf("written where /etc/pve was not mounted: %v %v", left, err)
	}
	cached := "attr_timeout=1,entry_timeout=1,negative_timeout=0"
	f.fuse = exec.Command("bindfs", "-f", "--multithreaded", "-o", cached, f.cluster(), f.path("pve"))
	f.must(f.fuse.Start())
	if !f.await(func() bool { _, err := os.Lstat(f.path("pve", "lxc")); return err == nil }) {
		f.t.Fatal("bindfs does not mount")
	}
}

func (f *watched) unmount() {
	f.t.Helper()
	f.command("umount", "--lazy", f.path("pve"))
	fuse := f.fuse
	_ = fuse.Process.Kill() // mount namespaces of others may have a copy of it, so that it does not end by itself
	_ = fuse.Wait()         // killed
}

func (f *watched) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *watched) start() {
	f.t.Helper()
	f.watch = f.exec([]string{"NOTIFY_SOCKET=" + f.path("notify")}, "watch", "--timeout", "0", "-o", "text")
	status := f.statuses()
	out, err := os.Create(f.path("watch.log"))
	f.must(err)
	defer out.Close()
	f.watch.Stdout, f.watch.Stderr = out, out
	f.must(f.watch.Start())
	f.firstRound(status)
}

// statuses is the socket on which systemd would hear of a service's state (sd_notify(3)).
func (f *watched) statuses() *net.UnixConn {
	f.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: f.path("notify"), Net: "unixgram"})
	f.must(err)
	f.t.Cleanup(func() { conn.Close() })
	return conn
}

// firstRound waits until watch has looked at everything, and goes on hearing it.
func (f *watched) firstRound(status *net.UnixConn) {
	f.t.Helper()
	done := make(chan struct{})
	go func() {
		buf, told := make([]byte, 64<<10), false
		for {
			n, err := status.Read(buf)
			if err != nil {
				return // closed
			}
			if !told && strings.Contains(string(buf[:n]), "STATUS=keeps") {
				told = true
				close(done)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(healLimit):
		f.t.Fatalf("watch finished no round within %s", healLimit)
	}
}

// look measures the floor, once something took long.
func (f *watched) look() {
	f.t.Helper()
	begun := time.Now()
	if r := f.phoenix(nil, append([]string{"plan"}, ids...)...); r.exit != 0 {
		f.t.Error(r)
	}
	f.floor = max(f.floor, time.Since(begun))
}

func (f *watched) stop() {
	_ = f.watch.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- f.watch.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			f.t.Errorf("watch, told to stop: %v", err)
		}
	case <-time.After(20 * time.Second):
		f.t.Error("watch does not stop within 20 s of SIGTERM")
		_ = f.watch.Process.Kill()
		<-done
	}
	if f.t.Failed() {
		f.t.Logf("watch said:\n%s", f.read("watch.log"))
	}
}

// still keeps watch from seeing a fault of several steps before it is whole.
func (f *watched) still(do func()) {
	f.must(f.watch.Process.Signal(syscall.SIGSTOP))
	defer func() { f.begun = time.Now(); f.must(f.watch.Process.Signal(syscall.SIGCONT)) }()
	do()
}

// tool is a person who calls one of Proxmox's commands.
func (f *watched) tool(argv ...string) {
	f.t.Helper()
	cmd := exec.Command(f.path("bin", argv[0]), argv[1:]...)
	cmd.Env = append(os.Environ(), "PHX_PROXMOX="+f.base, "PATH="+f.path("bin")+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// init is the process id of a container's init that has booted; 0: there is none.
func (f *watched) init(id string) int {
	raw, err := os.ReadFile(f.path("pids", id))
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(raw)), "stat"))
	if err != nil || strings.Contains(string(stat), ") Z ") {
		return 0
	}
	if booted, err := os.ReadFile(f.path("lib", id, "booted")); err != nil || string(booted) != string(raw) {
		return 0
	}
	pid, _ := strconv.Atoi(string(raw)) // 0: not yet written
	return pid
}

// state is all that counts; of what belongs to the cluster it is what the cluster has.
func (f *watched) state() (out []string) {
	for _, id := range append([]string{"900"}, ids...) {
		raw, err := os.ReadFile(f.cluster("nodes", "pve", "lxc", id+".conf"))
		if err != nil {
			out = append(out, id+" is not here")
			continue
		}
		for l := range strings.Lines(string(raw)) {
			out = append(out, id+".conf "+variable.ReplaceAllString(strings.TrimSpace(l), "N"))
		}
		if id != "900" {
			out = append(out, fmt.Sprintf("%s runs: %t", id, f.init(id) != 0))
		}
	}
	files, _ := filepath.Glob(f.cluster("firewall", "*.fw"))
	for _, name := range append(files, f.cluster("local", "host.fw")) {
		raw, err := os.ReadFile(name)
		out = append(out, fmt.Sprintf("%s %v", filepath.Base(name), err))
		for l := range strings.Lines(string(raw)) {
			out = append(out, filepath.Base(name)+" "+strings.TrimSpace(l))
		}
	}
	volumes, err := os.ReadDir(f.path("zfs"))
	out = append(out, fmt.Sprintf("%d volumes %v", len(volumes), err))
	slices.Sort(out)
	return out
}

func (f *watched) events() []engine.Entry {
	f.t.Helper()
	list, err := engine.ReadJournal(f.path("root", "events.jsonl"))
	f.must(err)
	return slices.DeleteFunc(list, func(e engine.Entry) bool { return e.Time.Before(f.begun) })
}

// outcome is one row of the table.
type outcome struct {
	name               string
	told, healed, call time.Duration // call: of healed, what Proxmox's own commands and monitors took
	floor              time.Duration // what a look at everything took, on a machine as busy as then
	problem            string
}

func (o outcome) own() time.Duration { return max(0, o.healed-o.call) }

const (
	// healLimit is only until when is waited: what took too long is judged by the limits below.
	healLimit = time.Minute

	// What phoenix may take beyond Proxmox, on a quiet machine. One that is busy with other suites needs as much longer
	// as it takes to look at everything: so many looks are allowed where that is more.
	strictMedian, strictMost = time.Second, 5 * time.Second
	looksMedian, looksMost   = 1, 4
)

// await asks until ask says yes, and changes nothing.
func (f *watched) await(ask func() bool) bool {
	for end := time.Now().Add(healLimit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ask() {
			return true
		}
	}
	return false
}

func (f *watched) run(x fault) (o outcome) {
	f.t.Helper()
	o.name, f.begun = x.name, time.Now()
	x.do(f)
	if x.told != "" {
		tells := func(e engine.Entry) bool {
			return strings.Contains(string(e.Object)+": "+e.Reason+" "+e.Error, x.told)
		}
		said := func() bool { return slices.ContainsFunc(f.events(), tells) }
		if !f.await(said) {
			o.problem = fmt.Sprintf("no event says %q: %v", x.told, f.events())
		}
		o.told = time.Since(f.begun)
	}
	if x.person != nil {
		time.Sleep(x.lasts - time.Since(f.begun))
		f.begun = time.Now()
		x.person(f)
	}
	var now []string
	same := func() bool {
		now = f.state()
		return slices.Equal(now, f.whole) && (x.quiet || len(f.events()) > 0)
	}
	if !f.await(same) {
		left := difference(f.whole, now)
		o.problem = cmp.Or(o.problem, fmt.Sprintf("not as before after %s: %s\n%v", healLimit, left, f.events()))
		return o
	}
	o.healed = time.Since(f.begun)
	o.call = f.proxmox(f.begun, time.Now())
	if o.own() > strictMedian {
		f.look() // is it the machine?
	}
	o.floor = f.floor
	return o
}

func difference(want, have []string) string {
	var out []string
	for _, l := range want {
		if !slices.Contains(have, l) {
			out = append(out, "missing: "+l)
		}
	}
	for _, l := range have {
		if !slices.Contains(want, l) {
			out = append(out, "too much: "+l)
		}
	}
	return strings.Join(out, "\n")
}

// proxmox is how much of the time between two moments Proxmox's commands, and the monitors of containers that
// ended, were at work.
func (f *watched) proxmox(from, to time.Time) (sum time.Duration) {
	f.t.Helper()
	type span struct{ begin, end int64 }
	var spans []span
	for line := range strings.Lines(f.read("times")) {
		w := strings.Fields(line)
		begin, err := strconv.ParseInt(w[0], 10, 64)
		f.must(err)
		end, err := strconv.ParseInt(w[1], 10, 64)
		f.must(err)
		spans = append(spans, span{begin, end})
	}
	marks, _ := filepath.Glob(f.path("lib", "*", "ended.*"))
	for _, m := range marks {
		if fi, err := os.Stat(m); err == nil {
			spans = append(spans, span{fi.ModTime().UnixNano(), fi.ModTime().Add(postStop).UnixNano()})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	at := from.UnixNano()
	for _, s := range spans {
		begin, end := max(s.begin, at), min(s.end, to.UnixNano())
		if end > begin {
			sum += time.Duration(end - begin)
			at = end
		}
	}
	return sum
}

func table(rows []outcome) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\ttold after\thealed after\tof that Proxmox\tphoenix\ta look\t")
	round := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.Round(10 * time.Millisecond).String()
	}
	for _, o := range rows {
		what := map[bool]string{true: "FAILED"}[o.problem != ""]
		times := []string{o.name, round(o.told), round(o.healed), round(o.call), round(o.own()), round(o.floor), what}
		fmt.Fprintln(w, strings.Join(times, "\t"))
	}
	_ = w.Flush() // into memory
	return b.String()
}

// Each fault is made on the stand-in while watch runs, and is repaired without help; what must not be repaired is
// told, and is as before once a person has done his part. Three hosts share the faults, as most of the time is
// waiting. PHOENIX_FAULT names those to make, by a part of the name.
func TestWatchFaults(t *testing.T) {
	const hosts = 3
	rows := make([][]outcome, hosts)
	t.Run("hosts", func(t *testing.T) {
		for i := range hosts {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				var mine []fault
				for j, x := range faults {
					if j%hosts == i && strings.Contains(x.name, os.Getenv("PHOENIX_FAULT")) {
						mine = append(mine, x)
					}
				}
				if len(mine) > 0 {
					rows[i] = newWatched(t).all(mine)
				}
			})
		}
	})
	all := slices.Concat(rows...)
	if len(all) == 0 {
		t.Skip("no fault was made")
	}
	judge(t, all)
}

// judge prints how long the repairs took, and fails where that is more than the machine explains.
func judge(t *testing.T, all []outcome) {
	t.Helper()
	var own []time.Duration
	var floor time.Duration
	for _, o := range all {
		own, floor = append(own, o.own()), max(floor, o.floor)
		if limit := max(strictMost, looksMost*o.floor); o.own() > limit {
			t.Errorf("%s: %s beyond Proxmox's own time; allowed are %s", o.name, o.own(), limit)
		}
	}
	slices.Sort(own)
	median, most := own[len(own)/2], own[len(own)-1]
	t.Logf("\n%s%d faults; beyond Proxmox's own time: median %s (on a quiet machine: at most %s), most %s (%s); a look "+
		"at everything took up to %s", table(all), len(all), median, strictMedian, most, strictMost, floor)
	if limit := max(strictMedian, looksMedian*floor); median > limit {
		t.Errorf("median %s; allowed are %s", median, limit)
	}
}

// all makes these faults, one after the other.
func (f *watched) all(list []fault) (rows []outcome) {
	f.t.Helper()
	f.tool("pct", "snapshot", "101", "before")
	f.whole = f.state()
	f.must(os.CopyFS(f.path("before"), os.DirFS(f.cluster("nodes", "pve", "lxc"))))
	for _, x := range list {
		time.Sleep(settled) // each is met by a watch that only waits
		o := f.run(x)
		rows = append(rows, o)
		if o.problem == "" {
			continue
		}
		f.t.Errorf("%s: %s", x.name, o.problem)
		r := f.phoenix(nil, append([]string{"create"}, ids...)...)
		if now := f.state(); r.exit != 0 || !slices.Equal(now, f.whole) {
			f.t.Fatalf("nor does create help\n%s\n%s\n%s", difference(f.whole, now), r, table(rows))
		}
	}
	if doc, r := f.changes(0, append([]string{"plan", "--detailed-exitcode"}, ids...)...); len(doc.Changes) > 0 {
		f.t.Errorf("the plan is not empty: %s", r)
	}
	return rows
}
