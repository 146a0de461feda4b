package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Names of examples/homelab that the CA gives certificates for; the last is 201's own.
var stealable = []string{"www.homelab.internal", "nginx.homelab.internal", "traefik.homelab.internal",
	"hello.homelab.internal", "ca.homelab.internal", "hello-backend.homelab.internal"}

// attack is root in 201, who means harm: what test/attacker sends and asks for, while somebody visits the gateway.
type attack struct {
	*Hypervisor
	program string
	macs    map[string]string // by address, as they are
	port    string            // of 201
}

func newAttack(h *Hypervisor) *attack {
	h.t.Helper()
	a := &attack{Hypervisor: h, program: filepath.Join(scratch, "attacker"), macs: map[string]string{}}
	build := exec.Command("go", "build", "-trimpath", "-o", a.program, "./test/attacker")
	build.Dir, build.Env = repo(), append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	h.Push(a.program, "201", "/root/attacker")
	for _, id := range []string{"101", "102", "103", "201"} {
		a.macs["10.86.17."+id] = strings.TrimSpace(h.Attach(id, nil, "cat",
			"/sys/class/net/eth0/address").Want(0).Stdout)
	}
	a.macs["10.86.17.1"] = strings.TrimSpace(h.Exec("cat", "/sys/class/net/"+bridge+"/address").Want(0).Stdout)
	i := slices.IndexFunc(h.Links(), func(name string) bool { return strings.HasPrefix(name, "v201p") })
	a.port = h.Links()[i]
	return a
}

// here is how the attacker is told who is where: it takes the gateway's place and lies to the CA.
func (a *attack) here() []string {
	var out []string
	for flag, address := range map[string]string{"-own": "10.86.17.201", "-victim": "10.86.17.101",
		"-target": "10.86.17.103", "-host": "10.86.17.1"} {
		out = append(out, flag, a.macs[address]+","+address)
	}
	return out
}

// sends wants nothing of what 201 must not send to arrive anywhere, and what it may send to.
func (a *attack) sends() {
	a.t.Helper()
	argv := a.inside([]string{a.program, "listen", "-but", a.port, "-for", "2m"})
	listener := exec.Command(argv[0], argv[1:]...)
	var stdout strings.Builder
	listener.Stdout = &stdout
	in, err := listener.StdinPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	ready, err := listener.StderrPipe()
	if err == nil {
		err = listener.Start()
	}
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 64)); err != nil {
		a.t.Fatalf("nobody listens: %v", err)
	}
	var sent []string
	a.Attach("201", nil, append([]string{"/root/attacker", "send"}, a.here()...)...).Want(0).JSON(&sent)
	in.Close()
	if err := listener.Wait(); err != nil {
		a.t.Fatalf("%v\n%s", err, stdout.String())
	}
	var heard map[string]map[string]int // by interface and name
	if err := json.Unmarshal([]byte(stdout.String()), &heard); err != nil {
		a.t.Fatalf("%v\n%s", err, stdout.String())
	}
	if heard[bridge]["own"] == 0 || heard[bridge]["own ARP"] == 0 {
		a.t.Errorf("what 201 may send does not arrive: %v", heard)
	}
	arrived := map[string]int{}
	for _, names := range heard {
		for name, n := range names {
			if name != "own" && name != "own ARP" {
				arrived[name] += n
			}
		}
	}
	slices.Sort(sent)
	kinds := slices.Compact(sent)
	a.t.Logf("of %d kinds of frames that 201 must not send %d arrived", len(kinds)-2, len(arrived))
	for _, name := range slices.Sorted(maps.Keys(arrived)) {
		a.t.Errorf("arrived %d times: %s", arrived[name], name)
	}
}

// believed wants nobody to have learned anything that is not so: which MAC is where, whose an address is, who leads
// out.
func (a *attack) believed() {
	a.t.Helper()
	var table []struct {
		MAC string `json:"mac"`
		Dev string `json:"ifname"`
	}
	a.Exec("bridge", "-json", "fdb", "show", "br", bridge, "dynamic").Want(0).JSON(&table)
	for _, e := range table {
		if own := a.macs["10.86.17.201"]; (e.Dev == a.port) != (e.MAC == own) {
			a.t.Errorf("the bridge has learned that %s is at %s (of %d entries)", e.MAC, e.Dev, len(table))
			break
		}
	}
	for _, who := range []string{"", "101", "102", "103"} {
		ask := func(argv ...string) Result {
			if who == "" {
				return a.Exec(argv...)
			}
			return a.Attach(who, nil, argv...)
		}
		for line := range strings.Lines(ask("ip", "neighbour").Want(0).Stdout) {
			f := strings.Fields(line)
			i := slices.Index(f, "lladdr")
			if want := a.macs[f[0]]; i > 0 && want != "" && f[i+1] != want {
				a.t.Errorf("%s believes that %s has the MAC %s", whoever(who), f[0], f[i+1])
			}
			if i > 0 && f[i+1] == a.macs["10.86.17.201"] && strings.HasPrefix(f[0], "10.") && f[0] != "10.86.17.201" {
				a.t.Errorf("%s believes that 201 has %s", whoever(who), f[0])
			}
		}
		if routes := ask("ip", "-6", "route", "show", "default").Want(0).Stdout; routes != "" {
			a.t.Errorf("%s follows %s", whoever(who), routes)
		}
		if addresses := ask("ip", "-6", "address", "show", "scope", "global").Want(0).Stdout; addresses != "" {
			a.t.Errorf("%s took an address: %s", whoever(who), addresses)
		}
	}
}

func whoever(id string) string {
	if id == "" {
		return "the hypervisor"
	}
	return "container " + id
}

// steals wants no certificate for anybody else's name.
func (a *attack) steals() {
	a.t.Helper()
	argv := append([]string{"/root/attacker", "steal"}, a.here()...)
	argv = append(argv, "-directory", "https://10.86.17.103:9000/acme/acme/directory", "-names",
		strings.Join(stealable, ","), "-for", "8s")
	var got struct {
		Issued, Refused map[string]string
		Asked           int
	}
	r := a.Attach("201", nil, argv...).Want(0)
	r.JSON(&got)
	a.t.Logf("issued %d of %d, asked %d times: %s", len(got.Issued), len(stealable), got.Asked, r.Stdout)
	own := stealable[len(stealable)-1]
	if got.Issued[own] == "" {
		a.t.Errorf("not even its own name: the thief does not know how\n%s", r)
	}
	for name := range got.Issued {
		if name != own {
			a.t.Errorf("201 got a certificate for %s", name)
		}
	}
	if got.Asked > 0 {
		a.t.Errorf("201 got %d connections that were meant for 101", got.Asked)
	}
}

// conntrack tells how connections on bridges are tracked here: "" where the kernel cannot in this way.
func (h *Hypervisor) conntrack() (native, netfilter bool) {
	probe := "table bridge probe { chain c { ct state established accept; }; }"
	native = h.Exec("sh", "-c", fmt.Sprintf("echo '%s' | nft --check --file -", probe)).Exit == 0
	return native, h.Exec("test", "-e", "/proc/sys/net/bridge").Exit == 0
}

// everything is the whole attack while the gateway is visited.
func (h *Hypervisor) everything(t *testing.T, forward string) {
	h.Exec("sysctl", "-qw", "net.ipv4.ip_forward="+forward).Want(0)
	was := h.t
	h.t = t
	defer func() { h.t = was }()
	v, stop := h.visitAll(h.RootCertificate())
	defer stop()
	a := newAttack(h)
	start := time.Now()
	a.sends()
	a.believed()
	a.steals()
	a.believed()
	stop()
	t.Logf("%d requests through the gateway in %s, %d failed", v.requests, time.Since(start).Round(time.Second),
		len(v.failed))
	if len(v.failed) > 0 || v.requests == 0 {
		t.Errorf("requests failed meanwhile:\n%s", strings.Join(v.failed, "\n"))
	}
}

// attacked is 201's root at work, whether the hypervisor routes or not, by each way to track connections, and where 201
// has no firewall.
func (h *Hypervisor) attacked(t *testing.T) {
	native, netfilter := h.conntrack()
	for _, way := range []struct {
		name string
		has  bool
		why  string
	}{{"nf_conntrack_bridge", native, "this kernel has none"},
		{"br_netfilter", netfilter && !native,
			"it is not there, or the kernel has the other way, which is preferred"}} {
		for _, forward := range []string{"0", "1"} {
			t.Run(way.name+" ip_forward="+forward, func(t *testing.T) {
				if !way.has {
					t.Skip(way.why)
				}
				h.everything(t, forward)
			})
		}
	}
	t.Run("without a firewall", func(t *testing.T) {
		h.edit("201", func(c map[string]any) { delete(c, "firewall") })
		h.Phoenix("apply", "201").Want(0)
		h.everything(t, "1")
		h.edit("201", func(c map[string]any) { c["firewall"] = map[string]any{"enabled": true} })
		h.Phoenix("apply", "201").Want(0)
	})
}
