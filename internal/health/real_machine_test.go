package health

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// apart runs the test again in network and mount namespaces of its own, and tells whether this is that run.
func apart(t *testing.T, tools ...string) bool {
	t.Helper()
	const mark = "PHOENIX_TEST_APART"
	if os.Getenv(mark) == t.Name() {
		shell(t, "mount --make-rprivate / && ip link set lo up")
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func shell(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

func expect(t *testing.T, r Result, want Status, says string) {
	t.Helper()
	if r.Status != want || !strings.Contains(r.Summary+" | "+r.Evidence, says) {
		t.Errorf("got %s: %s | %s\nwant %s with %q", r.Status, r.Summary, r.Evidence, want, says)
	}
}

// A real dnsmasq as Debian's package starts it is named, and with it none of phoenix's own kind comes up; what is at
// another address is left alone.
func TestRealPort53(t *testing.T) {
	if !apart(t, "dnsmasq", "ip") {
		return
	}
	shell(t, "ip link add br0 type bridge && ip addr add 10.9.0.1/24 dev br0 && ip link set br0 up")
	h, p := &host.Local{}, portParams{Listen: []string{"10.9.0.1"}, Dir: filepath.Join(t.TempDir(), "dns"), Bridge: "br0"}
	ask := func() Result { return runPort53(t.Context(), h, Check{}, p) }
	expect(t, ask(), Pass, "")
	serve := func(arguments ...string) func() {
		cmd := exec.Command("dnsmasq", append([]string{"-k", "-C", "/dev/null", "--pid-file=", "-u", "root"}, arguments...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if list, err := host.PortHolders(h, 53); err == nil && len(list) > 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		return func() { cmd.Process.Kill(); cmd.Wait() }
	}
	stop := serve("--bind-interfaces", "--listen-address=127.0.0.53")
	expect(t, ask(), Pass, "")
	stop()
	stop = serve()
	r := ask()
	expect(t, r, Fail, "is taken by dnsmasq (process ")
	own := exec.Command("timeout", "3", "dnsmasq", "-k", "-C", "/dev/null", "--pid-file=", "-u", "root", "--bind-dynamic",
		"--listen-address=10.9.0.1")
	if out, err := own.CombinedOutput(); !strings.Contains(string(out), "Address already in use") {
		t.Errorf("with another at all addresses ours came up: %v %s", err, out)
	}
	stop()
	expect(t, ask(), Pass, "")
}

// The kernel's own mounts: options, a file system without inodes, one without room.
func TestRealStorage(t *testing.T) {
	if !apart(t, "mount") {
		return
	}
	dir := t.TempDir()
	for options, want := range map[string]string{"noexec": "mounted noexec", "nosuid": "mounted nosuid", "ro": "mounted ro",
		"nr_inodes=50": "no inodes left", "size=1m": "is full: ", "size=1g,nr_inodes=50000": ""} {
		shell(t, fmt.Sprintf("mount -t tmpfs -o mode=755,%s none %s", options, dir))
		r := runStorage(t.Context(), &host.Local{}, Check{}, storageParams{Directories: []string{dir + "/lxc"},
			Creates: true})
		if want == "" {
			expect(t, r, Pass, "tmpfs on "+dir)
		} else {
			expect(t, r, Fail, want)
			expect(t, r, Fail, dir)
		}
		shell(t, "umount "+dir)
	}
}

// A network of Docker's kind with the bridge's subnet.
func TestRealAddress(t *testing.T) {
	if !apart(t, "ip") {
		return
	}
	ask := func() Result {
		return runAddress(t.Context(), &host.Local{}, Check{}, spec.Network{Bridge: "br0", Address: "10.9.0.1/24"})
	}
	shell(t, "ip link add br0 type bridge && ip addr add 10.9.0.1/24 dev br0 && ip link set br0 up")
	expect(t, ask(), Pass, "10.9.0.0/24")
	shell(t, "ip link add br-12ab type bridge && ip addr add 10.9.0.254/16 dev br-12ab && ip link set br-12ab up")
	expect(t, ask(), Fail, "br-12ab (Docker) | br-12ab has 10.9.0.254/16")
}

// Rules of others in the kernel stop a real packet, are named, and the command of the fix lets it through.
func TestRealRules(t *testing.T) {
	if !apart(t, "nft", "ip") {
		return
	}
	shell(t, `mount -t tmpfs none /run
ip link add br0 type bridge; ip addr add 10.9.0.1/24 dev br0; ip link set br0 up
ip netns add inside
ip link add out0 type veth peer name eth0 netns inside; ip link set out0 master br0 up
ip -n inside addr add 10.9.0.2/24 dev eth0; ip -n inside link set eth0 up`)
	defer exec.Command("ip", "netns", "del", "inside").Run()
	listing := recorded(t, "firewalld", "flags owner", "", "table inet firewalld", "table inet own")
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(listing)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := net.Listen("tcp", "10.9.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asks := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return exec.CommandContext(ctx, "ip", "netns", "exec", "inside", "bash", "-c",
			"exec 3<>/dev/tcp/10.9.0.1/53").Run() == nil
	}
	ask := func() Result {
		return runOtherRules(t.Context(), &host.Local{}, Check{}, rulesOfOthers{Bridge: "br0", Address: "10.9.0.1/24",
			Resolver: true})
	}
	r := ask()
	expect(t, r, Fail, "chain filter_IN_public of table inet own has the rule reject")
	if asks() {
		t.Error("the rules stop nothing: the test proves nothing")
	}
	for tries := 0; r.Status == Fail && tries < 3; tries++ { // what br_netfilter has filtered comes after
		fix, _, _ := strings.Cut(r.Fix, "; and write")
		shell(t, fix)
		r = ask()
	}
	expect(t, r, Pass, "kinds of packets of br0")
	if !asks() {
		t.Error("the commands of the fixes do not help")
	}
}
