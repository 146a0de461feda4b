package pve_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// byHand runs what a hand would in the namespaces of the running container.
func (n *node) byHand(argv ...string) {
	n.t.Helper()
	pid := strings.TrimSpace(n.read("pids/103"))
	if argv[0] == "umount" { // there is no tool for it inside
		inside, err := strconv.Atoi(pid)
		must(n.t, err)
		done := make(chan error)
		go func() { done <- host.UnmountFrom(inside, argv[1]) }()
		must(n.t, <-done)
		return
	}
	if out, err := exec.Command("nsenter",
		append([]string{"--target", pid, "--net", "--"}, argv...)...).CombinedOutput(); err != nil {
		n.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// What was taken from a running container by hand is seen without a call of pct, and put right by one restart, which
// asks nobody where it brings a volume back.
func TestDriftOfWhatRuns(t *testing.T) {
	n := newNode(t)
	n.up()
	x := n.runningThing()
	for _, c := range []struct {
		field string
		hand  []string
	}{
		{"mounted at /etc/step-ca/ssl", []string{"umount", "/etc/step-ca/ssl"}},
		{"address", []string{"ip", "address", "del", "10.0.0.10/24", "dev", "eth0"}},
		{"address", []string{"ip", "address", "flush", "dev", "eth0"}},
		{"interface eth0", []string{"ip", "link", "set", "eth0", "down"}},
		{"default route", []string{"ip", "route", "del", "default"}},
	} {
		n.byHand(c.hand...)
		n.forgetCalls()
		d := x.delta()
		if !d.Has(c.field) || d.Interrupts == strings.HasPrefix(c.field, "mounted at ") || d.Reason == "" {
			t.Errorf("%q: %+v", c.hand, d)
		}
		if calls := n.calls("pct"); len(calls) > 0 {
			t.Errorf("looking calls %q", calls)
		}
		x.make()
		if calls := n.calls("pct"); len(calls) != 2 {
			t.Errorf("%q is put right by %q", c.hand, calls)
		}
		n.forgetCalls()
		if d := x.delta(); !d.Empty() || len(n.calls("")) > 2 {
			t.Errorf("after %q: %+v, %q", c.hand, d, n.calls(""))
		}
	}
}

// Where Proxmox does not write the container's network configuration, and where DHCP does, the address is the
// container's own.
func TestAddressOfItsOwn(t *testing.T) {
	n := newNode(t)
	n.up()
	n.byHand("ip", "address", "flush", "dev", "eth0")
	text := n.conf("103")
	for what, conf := range map[string]string{
		"unmanaged": "ostype: unmanaged\n" + strings.ReplaceAll(text, "ostype:", "arch:"),
		"dhcp":      strings.ReplaceAll(text, "ip=10.0.0.10/24", "ip=dhcp"),
	} {
		n.write(conf, "pve/lxc/103.conf")
		if d := n.runningThing().delta(); !d.Empty() {
			t.Errorf("%s: %+v", what, d)
		}
	}
	n.write(text, "pve/lxc/103.conf")
	if d := n.runningThing().delta(); !d.Has("address") {
		t.Errorf("%+v", d)
	}
}

// What is set while a container runs and takes effect at once is no drift.
func TestHotplugIsNoDrift(t *testing.T) {
	n := newNode(t)
	n.up()
	n.tool("pct", "set", "103", "--net0", "name=eth0,bridge=vmbr0,ip=10.0.0.12/24,gw=10.0.0.1,type=veth", "--mp7",
		"local-zfs:1,mp=/srv/more")
	if d := n.runningThing().delta(); !d.Empty() {
		t.Errorf("%+v\n%s", d, n.conf("103"))
	}
}

// A change that waits for a restart comes in with it: consent is asked for then, and what waits is not called drift.
func TestDriftBesidesWhatWaits(t *testing.T) {
	n := newNode(t)
	n.up()
	n.byHand("umount", "/etc/step-ca/ssl")
	n.write(n.conf("103")+"[pve:pending]\nnet0: name=eth0,bridge=vmbr0,ip=10.0.0.11/24,type=veth\n", "pve/lxc/103.conf")
	n.byHand("ip", "address", "flush", "dev", "eth0")
	d := n.runningThing().delta()
	if !d.Interrupts || !d.Has("waits") || !d.Has("mounted at /etc/step-ca/ssl") || d.Has("address") {
		t.Errorf("%+v", d)
	}
}

// Stopped by hand, or in the web interface: Proxmox refuses to start a container until its monitor has ended, in words
// that say that it runs. It is asked again soon, and not waited for in vain.
func TestStoppedByHand(t *testing.T) {
	for name, stop := range map[string]func(*node){
		"stop":   func(n *node) { n.tool("pct", "stop", "103") },
		"killed": func(n *node) { n.killInit("103") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("1200ms", "post-stop")
			n.up()
			stop(n)
			begun := time.Now()
			n.runningThing().make()
			if took := time.Since(begun); took < time.Second || took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			if calls := n.calls("pct start 103"); len(calls) < 3 || len(calls) > 6 {
				t.Errorf("called %q", calls)
			}
		})
	}
}

// killInit kills a container's init, as a crash would.
func (n *node) killInit(id string) {
	n.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(n.read("pids", id)))
	must(n.t, err)
	must(n.t, syscall.Kill(pid, syscall.SIGKILL))
	for range 500 {
		if stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err != nil ||
			strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	n.t.Fatal("it does not end")
}
