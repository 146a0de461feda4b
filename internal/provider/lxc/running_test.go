package lxc_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/lxc"
)

const bridge = "phxt0"

// lab is a bridge and a directory for real containers; what is left running at the test's end is killed.
type lab struct {
	t    *testing.T
	top  string
	tree string
}

func newLab(t *testing.T) lab {
	l := lab{t: t, tree: debian(t)}
	var err error
	l.top, err = os.MkdirTemp(filepath.Dir(filepath.Dir(filepath.Dir(l.tree))), "lab")
	must(t, err)
	must(t, os.Chmod(l.top, 0o711))
	t.Cleanup(func() { must(t, os.RemoveAll(l.top)) })
	script := `ip link show dev $1 >/dev/null 2>&1 || { ip link add $1 type bridge; ip address add 10.99.2.1/24 dev $1; ip link set $1 up; }`
	if out, err := exec.Command("sh", "-c", script, "sh", bridge).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return l
}

func (l lab) container(n int) spec.Container {
	id := fmt.Sprint(n)
	return spec.Container{ID: id, Name: "ct" + id, Path: filepath.Join(l.top, "lxc"), Template: l.tree,
		MemoryBytes: 256 << 20, Cores: 2, IDMap: idMap,
		Interface: spec.NIC{Name: "eth0", Bridge: bridge, Address: fmt.Sprintf("10.99.2.%d/24", n),
			Gateway: "10.99.2.1"}}
}

// define makes the container's definition and gives its running object.
func (l lab) define(s spec.Container) object.Object {
	l.t.Helper()
	define(l.t, asObject(l.t, spec.KindContainer, s.ID, s))
	l.t.Cleanup(func() { _ = exec.Command("lxc-stop", "-k", "-P", s.Path, "-n", s.ID).Run() }) // stopped is as good
	return asObject(l.t, spec.KindRunning, s.ID, spec.Running{ID: s.ID, Path: s.Path})
}

func (l lab) boot(o object.Object) {
	l.t.Helper()
	must(l.t, lxc.NewRunning().Apply(context.Background(), &host.Local{}, o, plan.Delta{}))
}

func (l lab) inside(s spec.Container, argv ...string) string {
	l.t.Helper()
	cmd := exec.Command("lxc-attach", append([]string{"-P", s.Path, "-n", s.ID, "--clear-env", "--"}, argv...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Errorf("%q: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

func observe(t *testing.T, d provider.Erased, o object.Object) (lxc.RunningStatus, plan.Delta) {
	t.Helper()
	counted := host.NewCounted(&host.Local{}, nil)
	obs, err := d.Observe(context.Background(), counted, o)
	must(t, err)
	if counted.Mutations() != 0 {
		t.Errorf("observing changed the system")
	}
	var st lxc.RunningStatus
	must(t, json.Unmarshal(obs.Status, &st))
	return st, obs.Delta
}

func TestRunningConformance(t *testing.T) {
	next := 100
	var made spec.Container
	fresh := func(t *testing.T) (host.Host, object.Object) {
		next++
		l := newLab(t)
		made = l.container(next)
		return &host.Local{}, l.define(made)
	}
	debian(t)
	conformance.Run(t, conformance.Case{
		Driver: lxc.NewRunning(), Fresh: fresh, Volatile: []string{"pid", "definition", "wanted"},
		Tools: []string{"lxc-info", "lxc-start"},
		Not: map[string]string{
			"foreign": "what runs is known by its definition, which container/ID refuses",
		},
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"a killed container": func(t *testing.T, _ host.Host, _ object.Object) {
				must(t, exec.Command("lxc-stop", "-k", "-P", made.Path, "-n", made.ID).Run())
			},
			"a changed definition": func(t *testing.T, _ host.Host, _ object.Object) {
				made.MemoryBytes = 128 << 20
				define(t, asObject(t, spec.KindContainer, made.ID, made))
			},
		},
	})
}

func TestWhatRunsIsWhatWasAskedFor(t *testing.T) {
	l := newLab(t)
	volume := filepath.Join(l.top, "volumes/101/ssl certs")
	must(t, os.MkdirAll(volume, 0o711))
	must(t, os.Chown(volume, 100000, 100000))
	must(t, os.Chmod(volume, 0o700))
	s := l.container(101)
	s.Mounts = []spec.Mount{{Source: volume, Target: "/etc/nginx/ssl"}}
	s.Cores = 1
	o := l.define(s)
	l.boot(o)
	for want, argv := range map[string][]string{
		"running":      {"systemctl", "is-system-running"},
		"ct101":        {"hostname"},
		"0 0 700":      {"stat", "-c", "%u %g %a", "/etc/nginx/ssl"},
		"10.99.2.101":  {"sh", "-c", "ip -4 -o address show dev eth0 | awk '{print $4}' | cut -d/ -f1"},
		"10.99.2.1":    {"sh", "-c", "ip route show default | cut -d' ' -f3"},
		"100000 65536": {"sh", "-c", `awk '{print $2, $3}' /proc/self/uid_map`},
		"inactive":     {"sh", "-c", "systemctl is-active nginx || true"},
		"127.0.0.1":    {"sh", "-c", "getent ahostsv4 localhost | head -1 | cut -d' ' -f1"},
	} {
		if got := l.inside(s, argv...); got != want {
			t.Errorf("%q: got %q, want %q", argv, got, want)
		}
	}
	l.inside(s, "sh", "-c", "umask 077; echo secret > /etc/nginx/ssl/key")
	m, err := (&host.Local{}).Lstat(filepath.Join(volume, "key"))
	if err != nil || m.UID != 100000 || m.Mode.Perm() != 0o600 {
		t.Errorf("file in the volume: %+v, %v", m, err)
	}
	checkLimit(t, s, "memory", "memory.limit_in_bytes", "268435456")
	checkLimit(t, s, "cpu", "cpu.cfs_quota_us", "100000")
	checkLimit(t, s, "", "memory.max", "268435456")
	checkLimit(t, s, "", "cpu.max", "100000 100000")
}

// A hoster gives one address and a router that is no neighbour; a tunnel on the way takes smaller packets.
func TestAddressOfAHoster(t *testing.T) {
	l := newLab(t)
	s, mtu := l.container(105), 1400
	s.Interface.Address, s.Interface.MTU = "203.0.113.5/32", &mtu
	s.Interface.Address6, s.Interface.Gateway6 = "fd00:99:2::5/64", "fd00:99:2::1"
	o := l.define(s)
	l.boot(o)
	route := exec.Command("sh", "-ec", `ip route replace 203.0.113.5/32 dev $1
		ip address replace fd00:99:2::1/64 dev $1 nodad`, "sh", bridge)
	if out, err := route.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for want, argv := range map[string][]string{
		"203.0.113.5/32":  {"sh", "-c", "ip -4 -o address show dev eth0 | awk '{print $4}'"},
		"10.99.2.1":       {"sh", "-c", "ip route show default | cut -d' ' -f3"},
		"fd00:99:2::5/64": {"sh", "-c", "ip -6 -o address show dev eth0 scope global | awk '{print $4}'"},
		"fd00:99:2::1":    {"sh", "-c", "ip -6 route show default | cut -d' ' -f3"},
		"1400":            {"cat", "/sys/class/net/eth0/mtu"},
	} {
		if got := l.inside(s, argv...); got != want {
			t.Errorf("%q: got %q, want %q", argv, got, want)
		}
	}
	if got := l.inside(s, "bash", "-c", "cat </dev/tcp/10.99.2.1/"+greeter(t, "10.99.2.1")); got != "hello" {
		t.Errorf("nothing comes through: %q", got)
	}
	if got := l.inside(s, "bash", "-c", "cat </dev/tcp/fd00:99:2::1/"+greeter(t, "fd00:99:2::1")); got != "hello" {
		t.Errorf("nothing comes through by IPv6: %q", got)
	}
	l.inside(s, "ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")
	if st, delta := observe(t, lxc.NewRunning(), o); len(st.Drift) != 1 || !delta.Has("address") {
		t.Errorf("the IPv6 address is gone, and that is no drift: %+v", st)
	}
}

// greeter listens at an address of the hypervisor, and says hello at the port that it gives.
func greeter(t *testing.T, address string) (port string) {
	t.Helper()
	ear, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	must(t, err)
	t.Cleanup(func() { ear.Close() })
	go func() {
		for {
			c, err := ear.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
	_, port, err = net.SplitHostPort(ear.Addr().String())
	must(t, err)
	return port
}

// checkLimit looks at a limit where this system's generation of control groups has it.
func checkLimit(t *testing.T, s spec.Container, controller, file, want string) {
	t.Helper()
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", initPID(t, s)))
	must(t, err)
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7)
		if f[1] != controller {
			continue
		}
		top := filepath.Join("/sys/fs/cgroup", f[1], regexp.MustCompile(`^.*/lxc\.payload\.[^/]*`).FindString(f[2]))
		got, err := os.ReadFile(filepath.Join(top, file))
		if errors.Is(err, fs.ErrNotExist) {
			t.Logf("%s has no %s", top, file)
		} else if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s/%s: got %q, want %s; %v", top, file, got, want, err)
		}
	}
}

func initPID(t *testing.T, s spec.Container) int {
	st, _ := observe(t, lxc.NewRunning(), asObject(t, spec.KindRunning, s.ID, spec.Running{ID: s.ID, Path: s.Path}))
	return st.PID
}

func TestChangedDefinitionRestarts(t *testing.T) {
	l := newLab(t)
	s := l.container(101)
	o := l.define(s)
	l.boot(o)
	before, delta := observe(t, lxc.NewRunning(), o)
	if !delta.Empty() || before.State != "running" || !before.Booted {
		t.Fatalf("%+v %+v", before, delta)
	}
	s.Name = "renamed"
	define(t, asObject(t, spec.KindContainer, s.ID, s))
	if _, delta = observe(t, lxc.NewRunning(), o); !delta.Has("definition") {
		t.Fatalf("the change was not seen: %+v", delta)
	}
	l.boot(o)
	after, delta := observe(t, lxc.NewRunning(), o)
	if !delta.Empty() || after.PID == before.PID || l.inside(s, "hostname") != "renamed" {
		t.Errorf("%+v %+v", after, delta)
	}
}

func TestStopAndDelete(t *testing.T) {
	l := newLab(t)
	s := l.container(101)
	o := l.define(s)
	l.boot(o)
	for range 2 {
		must(t, lxc.NewRunning().Stop(context.Background(), &host.Local{}, o))
	}
	if st, _ := observe(t, lxc.NewRunning(), o); st.State != "stopped" {
		t.Errorf("%+v", st)
	}
	l.boot(o)
	for range 2 {
		must(t, lxc.NewContainer().Delete(context.Background(), &host.Local{},
			asObject(t, spec.KindContainer, s.ID, s)))
	}
	if left, err := os.ReadDir(s.Path); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhyItDoesNotStart(t *testing.T) {
	l := newLab(t)
	s := l.container(101)
	s.Interface.Bridge = "nosuchbr0"
	o := l.define(s)
	err := lxc.NewRunning().Apply(context.Background(), &host.Local{}, o, plan.Delta{})
	if err == nil || !strings.Contains(err.Error(), "nosuchbr0") ||
		!strings.Contains(err.Error(), "bridge interface doesn't exist") {
		t.Errorf("got %v", err)
	}
}

func TestNotStartedByAnotherName(t *testing.T) {
	l := newLab(t)
	s := l.container(101)
	l.define(s)
	link := filepath.Join(l.top, "link")
	must(t, os.Symlink(s.Path, link))
	o := asObject(t, spec.KindRunning, s.ID, spec.Running{ID: s.ID, Path: link})
	if err := lxc.NewRunning().Apply(context.Background(), &host.Local{}, o, plan.Delta{}); !provider.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
}

func TestEndedWhileBooting(t *testing.T) {
	l := newLab(t)
	s := l.container(101)
	o := l.define(s)
	init := filepath.Join(s.Path, s.ID, "rootfs/usr/lib/systemd/systemd")
	must(t, os.WriteFile(init, []byte("#!/bin/sh\nexit 1\n"), 0o755))
	began := time.Now()
	err := lxc.NewRunning().Apply(context.Background(), &host.Local{}, o, plan.Delta{})
	if err == nil || !strings.Contains(err.Error(), "101") || time.Since(began) > 20*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}

func TestBinaryConformance(t *testing.T) {
	l := newLab(t)
	source := filepath.Join(l.top, "phoenix")
	must(t, os.WriteFile(source, []byte("#!/bin/sh\necho I am phoenix\n"), 0o755))
	sum := sha256.Sum256([]byte("#!/bin/sh\necho I am phoenix\n"))
	s := l.container(101)
	l.boot(l.define(s))
	next := 0
	var target string
	fresh := func(t *testing.T) (host.Host, object.Object) {
		next++
		target = fmt.Sprintf("/usr/local/lib/phoenix-%d/phoenix", next)
		return &host.Local{},
			asObject(t, spec.KindBinary, "101",
				spec.Binary{ID: "101", Path: s.Path, Source: source, SHA256: hex.EncodeToString(sum[:]),
					Target: target})
	}
	damage := func(script string) func(*testing.T, host.Host, object.Object) {
		return func(*testing.T, host.Host, object.Object) { l.inside(s, "sh", "-c", script, "sh", target) }
	}
	conformance.Run(t, conformance.Case{Driver: lxc.NewBinary(), Fresh: fresh,
		Break: map[string]func(*testing.T, host.Host, object.Object){
			"another binary":   damage(`echo >> "$1"`),
			"a removed binary": damage(`rm "$1"`),
			"a lost mode":      damage(`chmod 644 "$1"`),
		}})
	h, o := fresh(t)
	must(t, lxc.NewBinary().Apply(context.Background(), h, o, plan.Delta{}))
	m, err := h.Lstat(filepath.Join(s.Path, s.ID, "rootfs", target))
	must(t, err)
	l.inside(s, "touch", target) // without its stamp it is read
	if obs, err := lxc.NewBinary().Observe(context.Background(), h, o); err != nil || !obs.Delta.Empty() ||
		m.ModTime.Year() > 2010 {
		t.Errorf("by content: %+v, %v; stamp %s", obs.Delta, err, m.ModTime)
	}
	if got := l.inside(s, target); got != "I am phoenix" {
		t.Errorf("got %q", got)
	}
	must(t, os.WriteFile(source, []byte("changed"), 0o755))
	if err := lxc.NewBinary().Apply(context.Background(), h, o, plan.Delta{}); !provider.IsPermanent(err) {
		t.Errorf("a source with another digest: %v", err)
	}
	must(t, exec.Command("lxc-stop", "-k", "-P", s.Path, "-n", s.ID).Run())
	if obs, err := lxc.NewBinary().Observe(context.Background(), h, o); err != nil || obs.Status != nil {
		t.Errorf("of a stopped container: %s, %v", obs.Status, err)
	}
}

// TestThreeAtOnce prints what creating and looking at three containers costs.
func TestThreeAtOnce(t *testing.T) {
	l := newLab(t)
	var objects []object.Object
	began := time.Now()
	var wg sync.WaitGroup
	containers := []spec.Container{l.container(101), l.container(102), l.container(103)}
	for _, s := range containers {
		wg.Go(func() {
			o := asObject(t, spec.KindContainer, s.ID, s)
			if err := lxc.NewContainer().Apply(context.Background(), &host.Local{}, o, plan.Delta{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cloned := time.Since(began)
	for _, s := range containers {
		objects = append(objects, l.define(s))
	}
	began = time.Now()
	for _, o := range objects {
		wg.Go(func() {
			if err := lxc.NewRunning().Apply(context.Background(), &host.Local{}, o, plan.Delta{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	booted := time.Since(began)
	began = time.Now()
	for i, o := range objects {
		wg.Go(func() {
			for _, look := range []struct {
				d provider.Erased
				o object.Object
			}{{lxc.NewContainer(), asObject(t, spec.KindContainer, containers[i].ID, containers[i])},
				{lxc.NewRunning(), o}} {
				if obs, err := look.d.Observe(context.Background(), &host.Local{}, look.o); err != nil ||
					!obs.Delta.Empty() {
					t.Errorf("%s: %+v, %v", look.o.Address, obs.Delta, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("three containers: cloned %s, started and booted %s, looked at %s", cloned, booted, time.Since(began))
}

// What was done to a container behind phoenix's back is seen in what runs, and put right by a restart.
func TestDriftOfWhatRuns(t *testing.T) {
	l := newLab(t)
	volume, other := filepath.Join(l.top, "volumes/101/ssl"), filepath.Join(l.top, "volumes/102/ssl")
	for _, dir := range []string{volume, other} {
		must(t, os.MkdirAll(dir, 0o711))
		must(t, os.Chown(dir, 100000, 100000))
	}
	s := l.container(101)
	s.Mounts = []spec.Mount{{Source: volume, Target: "/etc/nginx/ssl"}}
	o := l.define(s)
	l.boot(o)
	config := filepath.Join(s.Path, s.ID, "config")
	byHand := func(change func(string) string) {
		text, err := os.ReadFile(config)
		must(t, err)
		lxcTool(t, "lxc-stop", s, "-k")
		must(t, os.WriteFile(config, []byte(change(string(text))), 0o644))
		lxcTool(t, "lxc-start", s)
		must(t, os.WriteFile(config, text, 0o644))
	}
	for _, c := range []struct {
		path string
		do   func()
	}{
		{"mounted at /etc/nginx/ssl", func() { l.inside(s, "umount", "/etc/nginx/ssl") }},
		{"mounted at /mnt", func() {
			byHand(func(text string) string { return text + "lxc.mount.entry = " + other + " mnt none bind 0 0\n" })
		}},
		{"address", func() {
			byHand(func(text string) string { return strings.ReplaceAll(text, "10.99.2.101", "10.99.2.111") })
		}},
	} {
		c.do()
		if _, d := observe(t, lxc.NewRunning(), o); !d.Has(c.path) {
			t.Errorf("%s is not seen: %+v", c.path, d)
		}
		l.boot(o)
		if _, d := observe(t, lxc.NewRunning(), o); !d.Empty() {
			t.Errorf("%s is left after apply: %+v", c.path, d)
		}
	}
}

func lxcTool(t *testing.T, name string, s spec.Container, args ...string) {
	t.Helper()
	argv := append([]string{name, "-P", s.Path, "-n", s.ID}, args...)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// Other limits come into effect while the container runs; a restart by hand is not asked for, and a limit below what is
// used is no reason to kill what uses it.
func TestLimitsWithoutRestart(t *testing.T) {
	l := newLab(t)
	s := l.container(77)
	s.PidsMax = 500
	o := l.define(s)
	l.boot(o)
	running := func() lxc.RunningStatus {
		t.Helper()
		obs, err := lxc.NewRunning().Observe(context.Background(), &host.Local{}, o)
		must(t, err)
		var st lxc.RunningStatus
		must(t, json.Unmarshal(obs.Status, &st))
		if !obs.Delta.Empty() {
			t.Logf("delta: %+v", obs.Delta)
		}
		return st
	}
	before := running()
	limit := func(keys ...string) string {
		t.Helper()
		for _, key := range keys {
			if limit, ok := provider.LimitOf(&host.Local{}, before.PID, key); ok {
				return limit.Value
			}
		}
		t.Fatalf("no %v on this machine", keys)
		return ""
	}
	pids := []string{"lxc.cgroup2.pids.max", "lxc.cgroup.pids.max"}
	memory := []string{"lxc.cgroup2.memory.max", "lxc.cgroup.memory.limit_in_bytes"}
	if got := limit(pids...); got != "500" {
		t.Errorf("started with %s processes at most", got)
	}
	s.PidsMax, s.MemoryBytes = 700, 300<<20
	container := asObject(t, spec.KindContainer, s.ID, s)
	must(t, lxc.NewContainer().Apply(context.Background(), &host.Local{}, container, plan.Delta{Action: plan.Update}))
	if st := running(); len(st.Drift) == 0 || st.Definition != st.Wanted {
		t.Errorf("what differs is limits alone: %+v", st)
	}
	l.boot(o)
	if st := running(); st.PID != before.PID || len(st.Drift) > 0 {
		t.Errorf("it was restarted, or differs still: %+v, was %d", st, before.PID)
	}
	if p, m := limit(pids...), limit(memory...); p != "700" || m != fmt.Sprint(300<<20) {
		t.Errorf("%s processes, %s bytes", p, m)
	}
	// By hand.
	path, _ := provider.LimitOf(&host.Local{}, before.PID, pids[0])
	if path.Path == "" {
		path, _ = provider.LimitOf(&host.Local{}, before.PID, pids[1])
	}
	must(t, path.Set(context.Background(), &host.Local{}, "max"))
	l.boot(o)
	if got := limit(pids...); got != "700" || running().PID != before.PID {
		t.Errorf("opened by hand: %s", got)
	}
	// Processes beyond the limit are refused, inside.
	s.PidsMax = 64
	must(t, lxc.NewContainer().Apply(context.Background(), &host.Local{}, asObject(t, spec.KindContainer, s.ID, s),
		plan.Delta{Action: plan.Update}))
	l.boot(o)
	many := exec.Command("lxc-attach", "-P", s.Path, "-n", s.ID, "--", "sh", "-c",
		"i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done")
	if out, err := many.CombinedOutput(); err == nil || !strings.Contains(strings.ToLower(string(out)), "fork") {
		t.Errorf("a hundred processes were let in: %v, %s", err, out)
	}
}
