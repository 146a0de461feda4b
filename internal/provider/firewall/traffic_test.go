package firewall_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/firewall"
)

// macOf gives each guest a MAC of its own, after its address.
func macOf(address string) string {
	last := address[strings.LastIndexByte(address, '.')+1:]
	return "02:00:00:00:0" + last[:1] + ":" + last[1:]
}

// guest is a network namespace whose interface is plugged into the bridge, as a container's is.
type guest struct {
	t             *testing.T
	port, address string
	pid           int
}

// plug makes a guest, or gives it a new interface as a restart does.
func (g *guest) plug() {
	g.t.Helper()
	run(g.t, "", "ip", "link", "add", g.port, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(g.pid))
	run(g.t, "", "ip", "link", "set", "dev", g.port, "master", bridge, "up")
	run(g.t, "link set eth0 address "+macOf(g.address)+"\nlink set lo up\naddress add "+g.address+
		"/24 dev eth0\nlink set eth0 up\n", "nsenter", "-t", strconv.Itoa(g.pid), "-n", "ip", "-batch", "-")
	const forwarding = "3\n" // BR_STATE_FORWARDING (linux/if_bridge.h): the kernel sees the link a moment later
	state := "/sys/class/net/" + g.port + "/brport/state"
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got, err := os.ReadFile(state)
		if string(got) == forwarding {
			return
		}
		if time.Now().After(limit) {
			g.t.Fatalf("%s has state %q of the bridge: %v", g.port, got, err)
		}
	}
}

func newGuest(t *testing.T, port, address string) *guest {
	t.Helper()
	g := &guest{t: t, port: port, address: address}
	cmd := exec.Command("unshare", "--net", "cat") // until its input ends
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
		// by itself it goes with the namespace, some time later
		_ = exec.Command("ip", "link", "delete", "dev", port).Run()
		in.Close()
		_ = cmd.Wait()
	})
	if _, err = in.Write([]byte("x")); err == nil {
		_, err = io.ReadFull(out, make([]byte, 1)) // it is in its namespace
	}
	if err != nil {
		t.Fatal(err)
	}
	g.pid = cmd.Process.Pid
	g.plug()
	return g
}

// connect tries a port from inside: whoever is there answers, with a no at least.
func (g *guest) connect(address string, port int) (verdict string) {
	g.t.Helper()
	within(g.t, g.pid, func() { verdict = connect(g.t, address, port) })
	return verdict
}

// connect waits from the first packet on: how long a busy machine takes to come to it does not count.
func connect(t *testing.T, address string, port int) string {
	t.Helper()
	d := net.Dialer{Timeout: 400 * time.Millisecond}
	c, err := d.Dial("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	var silence net.Error
	switch {
	case err == nil:
		c.Close()
		return spec.Accept
	case errors.Is(err, unix.ECONNREFUSED):
		return spec.Accept
	case errors.As(err, &silence) && silence.Timeout():
		return spec.Drop
	}
	t.Fatalf("neither: %v", err)
	return ""
}

// town is two guests and the hypervisor on a bridge; the first has a firewall.
func town(t *testing.T) (a, b *guest, apply func(...spec.Rule) spec.Firewall) {
	t.Helper()
	conformance.Isolated(t, "ip", "nft", "nsenter", "bridge", "lsns")
	h, _ := fresh(t)
	run(t, "", "ip", "address", "add", "10.99.2.1/24", "dev", bridge)
	run(t, "", "ip", "link", "set", "dev", bridge, "up")
	a, b = newGuest(t, port, "10.99.2.103"), newGuest(t, "phxt101", "10.99.2.101")
	return a, b, func(rules ...spec.Rule) spec.Firewall {
		t.Helper()
		s := spec.Firewall{ID: "103", Port: port, Bridge: bridge, Address: a.address, MAC: macOf(a.address),
			Rules: rules}
		ctx, o := context.Background(), asObject(t, s)
		if err := firewall.New().Apply(ctx, h, o, plan.Delta{}); err != nil {
			t.Fatal(err)
		}
		if obs, err := firewall.New().Observe(ctx, h, o); err != nil || !obs.Delta.Empty() {
			t.Fatalf("not true: %+v, %v", obs.Delta, err)
		}
		return s
	}
}

// What the kernel does is what the rules mean.
func TestKernelKeepsTheRules(t *testing.T) {
	a, b, apply := town(t)
	if b.connect(a.address, 80) != spec.Accept {
		t.Fatal("without a firewall nothing gets through")
	}
	in := func(action, proto, ports, source string) spec.Rule {
		return spec.Rule{Direction: spec.In, Action: action, Proto: proto, Ports: ports, Source: source}
	}
	out := func(action, ports, dest string) spec.Rule {
		return spec.Rule{Direction: spec.Out, Action: action, Proto: "tcp", Ports: ports, Dest: dest}
	}
	for _, rules := range [][]spec.Rule{
		nil,
		{in(spec.Accept, "tcp", "80,443,8000:8010", "10.99.2.101")},
		{in(spec.Accept, "tcp", "80", "10.99.2.1")},
		{in(spec.Drop, "", "", "10.99.2.100/31"), in(spec.Accept, "tcp", "80", "")},
		{in(spec.Accept, "", "", "10.99.2.0/24"), out(spec.Drop, "443", "")},
		{in(spec.Accept, "udp", "80", ""), out(spec.Accept, "80", "10.99.2.101"), out(spec.Drop, "1:65535", "")},
	} {
		s := apply(rules...)
		for _, port := range []int{80, 443, 8005} {
			for from, got := range map[string]string{b.address: b.connect(a.address, port),
				"10.99.2.1": connect(t, a.address, port)} {
				if want, _ := s.Verdict(spec.In, "tcp", from, a.address, port); got != want {
					t.Errorf("%v: %s to port %d: %s, want %s", rules, from, port, got, want)
				}
			}
			for _, to := range []string{b.address, "10.99.2.1"} {
				if want, _ := s.Verdict(spec.Out, "tcp", a.address, to, port); a.connect(to, port) != want {
					t.Errorf("%v: to %s, port %d: not %s", rules, to, port, want)
				}
			}
		}
	}
}

// Nobody gets past by speaking with another's address, or in the moment of a restart.
func TestNobodyGetsPast(t *testing.T) {
	a, b, apply := town(t)
	apply(spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: "tcp", Ports: "80", Source: "10.99.2.50"})
	if b.connect(a.address, 80) != spec.Drop {
		t.Error("somebody else gets in")
	}
	run(t, "", "ip", "link", "delete", port)
	a.plug()
	if b.connect(a.address, 80) != spec.Drop || a.connect(b.address, 80) != spec.Accept {
		t.Error("after a restart it does not hold")
	}
	enter := []string{"nsenter", "-t", strconv.Itoa(a.pid), "-n"}
	run(t, "", append(enter, "ip", "address", "add", "10.99.2.50/24", "dev", "eth0")...)
	run(t, "", append(enter, "ip", "route", "add", b.address+"/32", "dev", "eth0", "src", "10.99.2.50")...)
	if a.connect(b.address, 80) != spec.Drop {
		t.Error("it speaks with another's address")
	}
}

// While its rules were away a container may have told the bridge and its neighbours anything. With the rules that is
// forgotten, by the bridge, the hypervisor and every container; what was not repaired is left alone.
func TestWhatWasStolenIsForgotten(t *testing.T) {
	a, b, apply := town(t)
	const forged = "02:66:66:66:66:66"
	inB := []string{"nsenter", "-t", strconv.Itoa(b.pid), "-n"}
	steal := func() {
		run(t, "", "bridge", "fdb", "replace", forged, "dev", a.port, "master", "dynamic")
		run(t, "", "ip", "neighbour", "replace", "10.99.2.101", "lladdr", forged, "dev", bridge, "nud", "stale")
		run(t, "", append(inB, "ip", "neighbour", "replace", "10.99.2.1", "lladdr", forged, "dev", "eth0", "nud",
			"stale")...)
	}
	stolen := func() (out []string) {
		for where, text := range map[string]string{
			"the bridge":     run(t, "", "bridge", "fdb", "show", "br", bridge),
			"the hypervisor": run(t, "", "ip", "neighbour"),
			"a neighbour":    run(t, "", append(inB, "ip", "neighbour")...),
		} {
			if strings.Contains(text, forged) {
				out = append(out, where)
			}
		}
		return out
	}
	apply()
	steal()
	apply(spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: "tcp", Ports: "80"})
	if got := stolen(); len(got) != 3 {
		t.Errorf("a new rule makes all but %v forget", got)
	}
	for _, damage := range [][]string{{"flush", "ruleset"}, {"flush", "chain", "bridge", "phoenix_" + port, "own"}} {
		steal()
		run(t, "", append([]string{"nft"}, damage...)...)
		apply()
		if got := stolen(); len(got) != 0 {
			t.Errorf("after nft %v: %v still believe it", damage, got)
		}
	}
}

// A container that has another MAC than it should is not cut off when its identity is enforced for the first time.
func TestTheMACIsGiven(t *testing.T) {
	a, b, apply := town(t)
	in := []string{"nsenter", "-t", strconv.Itoa(a.pid), "-n"}
	run(t, "", append(in, "ip", "link", "set", "dev", "eth0", "address", "02:66:66:66:66:66")...)
	apply(spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: "tcp", Ports: "80"})
	if got := run(t, "", append(in, "cat", "/proc/net/arp")...); strings.Contains(got, "66:66") {
		t.Error(got)
	}
	if got := run(t, "", append(in, "ip", "link", "show", "dev", "eth0")...); !strings.Contains(got, macOf(a.address)) {
		t.Errorf("it has another MAC: %s", got)
	}
	if b.connect(a.address, 80) != spec.Accept || a.connect(b.address, 80) != spec.Accept {
		t.Error("it is cut off")
	}
}

// A container with an IPv6 address speaks with that one, and with no other's; its rules hold for it too.
func TestIPv6Address(t *testing.T) {
	a, b, apply := town(t)
	in := func(g *guest, argv ...string) {
		run(t, "", append([]string{"nsenter", "-t", strconv.Itoa(g.pid), "-n", "ip", "-6"}, argv...)...)
	}
	in(a, "address", "add", "fd00:99::103/64", "dev", "eth0", "nodad")
	in(b, "address", "add", "fd00:99::101/64", "dev", "eth0", "nodad")
	s := apply(spec.Rule{Direction: spec.In, Action: spec.Accept, Proto: "tcp", Ports: "80"})
	if b.connect("fd00:99::103", 80) != spec.Drop {
		t.Error("an address that the file does not name is reachable")
	}
	s.Address6 = "fd00:99::103"
	h, o := &host.Local{}, asObject(t, s)
	if err := firewall.New().Apply(context.Background(), h, o, plan.Delta{}); err != nil {
		t.Fatal(err)
	}
	if obs, err := firewall.New().Observe(context.Background(), h, o); err != nil || !obs.Delta.Empty() {
		t.Fatalf("not true: %+v, %v", obs.Delta, err)
	}
	for _, step := range []struct {
		from *guest
		to   string
		port int
		want string
	}{
		{b, "fd00:99::103", 80, spec.Accept}, {b, "fd00:99::103", 81, spec.Drop}, {a, "fd00:99::101", 81, spec.Accept},
	} {
		in(step.from, "neighbour", "flush", "all") // a failed one is not asked for again at once
		if got := step.from.connect(step.to, step.port); got != step.want {
			t.Errorf("%s from %s: port %d: %s", step.to, step.from.address, step.port, got)
		}
	}
	in(a, "address", "add", "fd00:99::50/64", "dev", "eth0", "nodad")
	if b.connect("fd00:99::50", 80) != spec.Drop {
		t.Error("it answers with another's address")
	}
}
