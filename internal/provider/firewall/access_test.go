package firewall_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/firewall"
)

const wan, wanAddress, lanClient = "phxtwan", "10.98.1.1", "10.98.1.2"

func access(t *testing.T, s spec.Access) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: "access/" + bridge, Provider: "firewall", Spec: raw}
}

func forwarding(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name + "/forwarding")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lan is a client beyond the hypervisor's default route.
func lan(t *testing.T) (pid int) {
	t.Helper()
	run(t, "", "nft", "flush", "ruleset")
	sysctl(t, "ip_forward", "0")
	cmd := exec.Command("unshare", "--net", "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("ip", "link", "delete", "dev", wan).Run()
		in.Close()
		_ = cmd.Wait()
	})
	if _, err = in.Write([]byte("x")); err == nil {
		_, err = io.ReadFull(out, make([]byte, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	pid = cmd.Process.Pid
	run(t, "", "ip", "link", "add", wan, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(pid))
	run(t, "", "ip", "address", "add", wanAddress+"/24", "dev", wan)
	run(t, "", "ip", "link", "set", "dev", wan, "up")
	run(t, "", "ip", "route", "add", "default", "via", lanClient, "metric", "100")
	run(t, "link set lo up\naddress add "+lanClient+"/24 dev eth0\nlink set eth0 up\nroute add 10.99.2.0/24 via "+
		""+wanAddress+"\n",
		"nsenter", "-t", strconv.Itoa(pid), "-n", "ip", "-batch", "-")
	return pid
}

// within runs f with the network namespace of a process: sockets that it makes are of that one.
func within(t *testing.T, pid int, f func()) {
	t.Helper()
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	f()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err) // the thread is lost
	}
	runtime.UnlockOSThread()
}

// serve answers whoever connects with the address that they come from.
func serve(t *testing.T, pid int, ports ...int) {
	t.Helper()
	within(t, pid, func() {
		for _, p := range ports {
			l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", p))
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					fmt.Fprint(c, from)
					c.Close()
				}
			}()
		}
	})
}

// ask connects and returns who the other side takes the caller for; empty: nobody answers.
func ask(t *testing.T, pid int, address string, wait time.Duration) (seen string) {
	t.Helper()
	within(t, pid, func() {
		d := net.Dialer{Timeout: wait}
		c, err := d.Dial("tcp4", address)
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		raw, _ := io.ReadAll(c)
		seen = string(raw)
	})
	return seen
}

// settle applies what there is to apply, and fails where a second look finds more.
func settle(t *testing.T, o object.Object) {
	t.Helper()
	x, h := firewall.NewAccess(), &host.Local{}
	obs, err := x.Observe(context.Background(), h, o)
	if err == nil && !obs.Delta.Empty() {
		err = x.Apply(context.Background(), h, o, obs.Delta)
	}
	if err != nil {
		t.Fatal(err)
	}
	if obs, err = x.Observe(context.Background(), h, o); err != nil || !obs.Delta.Empty() {
		t.Fatalf("it does not come to rest: %+v, %v", obs.Delta, err)
	}
}

func accessSpec(t *testing.T, mode string) spec.Access {
	s := spec.Access{Name: "phxt0_ab12", Bridge: bridge, Subnet: "10.99.2.0/24", Mode: mode,
		State: filepath.Join(t.TempDir(), "access")}
	if mode == spec.AccessForward {
		s.Gateway, s.Ports = "10.99.2.103", []string{"tcp/80", "tcp/443"}
	}
	return s
}

func TestAccessConformance(t *testing.T) {
	conformance.Isolated(t, "ip", "nft", "sh")
	lan(t)
	run(t, "", "ip", "link", "add", bridge, "type", "bridge")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "dev", bridge).Run() })
	damage := func(argv ...string) conformance.Damage {
		return func(t *testing.T, _ host.Host, _ object.Object) { run(t, "", argv...) }
	}
	s := accessSpec(t, spec.AccessForward)
	fresh := func(t *testing.T) (host.Host, object.Object) {
		run(t, "", "nft", "flush", "ruleset")
		_ = os.Remove(s.State)
		for _, name := range []string{wan, bridge} {
			sysctl(t, "conf/"+name+"/forwarding", "0")
		}
		return &host.Local{}, access(t, s)
	}
	conformance.Run(t, conformance.Case{Driver: firewall.NewAccess(), Fresh: fresh, Tools: []string{"nft", "sh"},
		Break: map[string]conformance.Damage{
			"everything flushed":   damage("nft", "flush", "ruleset"),
			"an emptied chain":     damage("nft", "flush", "chain", "inet", s.Table(), "ports"),
			"a rule added by hand": damage("nft", "insert", "rule", "inet", s.Table(), "passing", "accept"),
			"no forwarding": func(t *testing.T, _ host.Host, _ object.Object) {
				sysctl(t,
					"conf/"+wan+"/forwarding", "0")
			},
			"another uplink": func(t *testing.T, _ host.Host, _ object.Object) {
				run(t, "", "ip", "link", "add", "phxtwan2", "type", "bridge")
				t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "dev", "phxtwan2").Run() })
				run(t, "", "ip", "address", "replace", "10.98.9.1/24", "dev", "phxtwan2")
				run(t, "", "ip", "link", "set", "dev", "phxtwan2", "up")
				run(t, "", "ip", "route", "add", "default", "via", "10.98.9.2", "metric", "20", "dev", "phxtwan2")
			},
		}, Not: map[string]string{"foreign": "the table has phoenix's name"}})
}

// What a client of the LAN, the gateway behind its firewall, and another container see of one another, with each mode;
// and that nothing is left of it.
func TestAccessTraffic(t *testing.T) {
	a, b, apply := town(t)
	client := lan(t)
	apply(spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: "tcp", Ports: "80,443", Dest: a.address})
	for _, g := range []*guest{a, b} {
		run(t, "", "nsenter", "-t", strconv.Itoa(g.pid), "-n", "ip", "route", "add", "default", "via", "10.99.2.1")
		serve(t, g.pid, 80, 443, 22)
	}
	serve(t, client, 99)
	others := run(t, "", "nft", "add", "table", "inet", "somebodys")
	forward := accessSpec(t, spec.AccessForward)
	route := accessSpec(t, spec.AccessRoute)
	route.State = forward.State
	// a port of b, whose program has another number than the hypervisor's
	published := forward
	published.Forwards = []spec.Forward{{Port: "tcp/8022", To: b.address + ":22"}}
	none := forward
	none.Mode, none.Gateway, none.Ports = spec.AccessNone, "", nil
	type way struct {
		what string
		pid  int
		to   string
	}
	ways := []way{
		{"gateway by the hypervisor", client, wanAddress + ":443"}, {"another port of the hypervisor", client,
			wanAddress + ":22"},
		{"gateway directly", client, a.address + ":443"}, {"a closed port of the gateway", client, a.address + ":22"},
		{"another container", client, b.address + ":22"}, {"from the gateway", a.pid, lanClient + ":99"},
		{"from another container", b.pid, lanClient + ":99"}, {"a published port", client, wanAddress + ":8022"},
	}
	closed := []string{"", "", "", "", "", "", "", ""}
	for _, step := range []struct {
		name string
		s    spec.Access
		want []string
	}{
		{"nothing yet", none, closed},
		{"forward", forward, []string{lanClient, "", "", "", "", wanAddress, wanAddress, ""}},
		{"published", published, []string{lanClient, "", "", "", "", wanAddress, wanAddress, lanClient}},
		{"route", route, []string{"", "", lanClient, "", lanClient, a.address, b.address, ""}},
		{"forward again", forward, []string{lanClient, "", "", "", "", wanAddress, wanAddress, ""}},
		{"none", none, closed},
	} {
		settle(t, access(t, step.s))
		for i, w := range ways {
			wait := 200 * time.Millisecond
			if step.want[i] != "" {
				wait = 5 * time.Second
			}
			if got := ask(t, w.pid, w.to, wait); got != step.want[i] {
				t.Errorf("%s: %s (%s): seen as %q, want %q\n%s", step.name, w.what, w.to, got, step.want[i], run(t,
					"", "nft", "list", "ruleset"))
			}
		}
		if raw, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); strings.TrimSpace(string(raw)) != "0" {
			t.Errorf("%s: all of the machine forwards", step.name)
		}
	}
	tables := run(t, "", "nft", "list", "tables")
	if _, err := os.Stat(forward.State); err == nil || strings.Contains(tables, "phoenix_access") ||
		!strings.Contains(tables, "somebodys") {
		t.Errorf("left: %v %s%s", err, tables, others)
	}
	if forwarding(t, wan)+forwarding(t, bridge) != "00" {
		t.Error("the interfaces still forward")
	}
}

// Forwarding that was on before, or that somebody else needs meanwhile, stays on.
func TestAccessLeavesForwarding(t *testing.T) {
	town(t)
	lan(t)
	forward := accessSpec(t, spec.AccessForward)
	none := forward
	none.Mode, none.Gateway, none.Ports = spec.AccessNone, "", nil
	sysctl(t, "conf/"+wan+"/forwarding", "1")
	settle(t, access(t, forward))
	settle(t, access(t, none))
	if got := forwarding(t, wan) + forwarding(t, bridge); got != "10" {
		t.Errorf("%s after one was on before", got)
	}
	settle(t, access(t, forward))
	sysctl(t, "ip_forward", "1")
	settle(t, access(t, none))
	if got := forwarding(t, wan) + forwarding(t, bridge); got != "11" {
		t.Errorf("%s after all of the machine was made to forward", got)
	}
}

// What cannot be done is refused before anything is touched, with what to do.
func TestAccessRefusals(t *testing.T) {
	town(t)
	lan(t)
	s := accessSpec(t, spec.AccessForward)
	refused := func(want string) {
		t.Helper()
		x, h := firewall.NewAccess(), &host.Local{}
		obs, err := x.Observe(context.Background(), h, access(t, s))
		if err == nil {
			err = x.Apply(context.Background(), h, access(t, s), obs.Delta)
		}
		if err == nil || !strings.Contains(err.Error(), want) || provider.Hint(err) == "" {
			t.Errorf("got %v, hint %q, want %q", err, provider.Hint(err), want)
		}
		if tables := run(t, "", "nft", "list", "tables"); strings.Contains(tables, "phoenix_access") || forwarding(t,
			bridge) != "0" {
			t.Errorf("something was done: %s", tables)
		}
	}
	for _, c := range []struct {
		at     string
		refuse bool
	}{{"0.0.0.0:443", true}, {wanAddress + ":80", true}, {"[::]:443", true}, {"127.0.0.1:443", false}} {
		l, err := net.Listen("tcp", c.at)
		if err != nil {
			t.Fatal(err)
		}
		if c.refuse {
			refused("is served by process " + strconv.Itoa(os.Getpid()))
		} else {
			settle(t, access(t, s))
			s.Mode = spec.AccessNone
			settle(t, access(t, s))
			s.Mode = spec.AccessForward
		}
		l.Close()
	}
	publishedClash(t, s)
	run(t, "", "ip", "route", "add", "default", "via", "10.99.2.101", "dev", bridge)
	refused("leads out of the machine itself")
	run(t, "", "ip", "route", "delete", "default", "dev", bridge)
	run(t, "", "ip", "route", "delete", "default")
	refused("no default route")
	run(t, "", "ip", "route", "add", "default", "via", lanClient)
	for _, mark := range []string{"device", "bonding", "lower_eth0"} {
		_, err := firewall.NewAccess().Observe(context.Background(), cabled{&host.Local{}, mark}, access(t, s))
		if err != nil {
			t.Errorf("%s: what nobody made yet cannot be looked at: %v", mark, err)
		}
		err = firewall.NewAccess().Apply(context.Background(), cabled{&host.Local{}, mark}, access(t, s), plan.Delta{})
		if err == nil || !strings.Contains(err.Error(), "port phxt101") {
			t.Errorf("%s: %v", mark, err)
		}
	}
	settle(t, access(t, s)) // the ports of containers are no way out
}

// publishedClash adds ports to what is forwarded already that a server of the hypervisor's own has, TCP and UDP: all are
// named, and what was forwarded before stays.
func publishedClash(t *testing.T, s spec.Access) {
	t.Helper()
	settle(t, access(t, s))
	tcp, err := net.Listen("tcp", wanAddress+":8022")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "0.0.0.0:8053")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	s.Forwards = []spec.Forward{{Port: "tcp/8022", To: "10.99.2.104:22"}, {Port: "udp/8053", To: "10.99.2.104:53"},
		{Port: "tcp/8023", To: "10.99.2.104:23"}}
	x, h := firewall.NewAccess(), &host.Local{}
	before := run(t, "", "nft", "list", "ruleset")
	err = x.Apply(context.Background(), h, access(t, s), plan.Delta{})
	me := " of this machine is served by process " + strconv.Itoa(os.Getpid())
	if err == nil || !strings.Contains(err.Error(), "port 8022 (tcp, for 10.99.2.104:22)"+me) ||
		!strings.Contains(err.Error(), "port 8053 (udp, for 10.99.2.104:53)"+me) ||
		strings.Contains(err.Error(), "8023") || provider.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
	if after := run(t, "", "nft", "list", "ruleset"); after != before {
		t.Errorf("something was done: %s", after)
	}
	tcp.Close()
	udp.Close()
	settle(t, access(t, s))
	none := s
	none.Mode, none.Gateway, none.Ports, none.Forwards = spec.AccessNone, "", nil, nil
	settle(t, access(t, none))
}

// cabled is a system whose port phxt101 has a mark of those that lead out.
type cabled struct {
	host.Host
	mark string
}

func (c cabled) Lstat(path string) (host.Meta, error) {
	if path == "/sys/class/net/phxt101/"+c.mark {
		return host.Meta{}, nil
	}
	return c.Host.Lstat(path)
}

func (c cabled) ReadDir(path string) ([]string, error) {
	names, err := c.Host.ReadDir(path)
	if path == "/sys/class/net/phxt101" {
		names = append(names, c.mark)
	}
	return names, err
}
