package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tools/sweep is what cleans up when phoenix cannot: it must find a container
// in a network namespace, a dnsmasq and a mount by nothing but the directory's
// path, and leave what is elsewhere alone.
func TestSweepRemovesEverythingBelowAFolder(t *testing.T) {
	if err := missing(); err != nil {
		t.Skip(err)
	}
	base := t.TempDir()
	h := &Hypervisor{t: t, Name: prefix() + "-sweep", Root: filepath.Join(base, "root")}
	other := &Hypervisor{t: t, Name: h.Name, Root: filepath.Join(base, "other")}
	command(t, "ip", "netns", "add", h.Name)
	t.Cleanup(func() { command(t, "ip", "netns", "delete", h.Name) })
	t.Cleanup(func() { command(t, filepath.Join(repo(), "tools", "sweep"), base) })
	h.litter()
	other.litter()

	command(t, filepath.Join(repo(), "tools", "sweep"), h.Root)
	if _, err := os.Stat(h.Root); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
	out, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(out), h.Root+"/") {
		t.Errorf("mounts are left (%v)\n%s", err, out)
	}
	ps, err := exec.Command("ps", "axww", "-o", "args").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(ps)) {
		if strings.Contains(line, h.Root+"/") {
			t.Errorf("a process is left: %s", line)
		}
	}
	other.Exec("lxc-wait", "-P", other.Root+"/lxc", "-n", "7", "-s", "RUNNING", "-t", "0").Want(0)
	if !strings.Contains(string(ps), other.Root+"/dns/conf") || !strings.Contains(string(out), other.Root+"/volumes") {
		t.Error("what belongs to another directory was swept away")
	}
}

func TestSweepRefusesSystemDirectories(t *testing.T) {
	for _, dir := range []string{"/", "/etc/lxc", "/usr/../var/lib", "/proc/1", "/tmp/.."} {
		if out, err := exec.Command(filepath.Join(repo(), "tools", "sweep"), dir).CombinedOutput(); err == nil ||
			!strings.Contains(string(out), "refusing") {
			t.Fatalf("%s: %v %s", dir, err, out)
		}
	}
}

// litter makes a running container, a dnsmasq and a mount below h.Root.
func (h *Hypervisor) litter() {
	h.t.Helper()
	container := filepath.Join(h.Root, "lxc", "7")
	for _, dir := range []string{container, h.Root + "/dns", h.Root + "/volumes/with space"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	h.buildInit(filepath.Join(container, "rootfs"))
	config := "lxc.uts.name = seven\nlxc.net.0.type = empty\nlxc.init.cmd = /init\n" +
		"lxc.console.path = none\nlxc.rootfs.path = dir:" + container + "/rootfs\n"
	if err := os.WriteFile(container+"/config", []byte(config), 0o644); err != nil {
		h.t.Fatal(err)
	}
	conf := h.Root + "/dns/conf"
	if err := os.WriteFile(conf, []byte("no-resolv\nport=0\npid-file="+h.Root+"/dns/pid\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
	command(h.t, "mount", "-t", "tmpfs", "none", h.Root+"/volumes/with space")
	h.Exec("lxc-start", "-P", h.Root+"/lxc", "-n", "7", "-d").Want(0)
	h.Exec("lxc-wait", "-P", h.Root+"/lxc", "-n", "7", "-s", "RUNNING", "-t", "10").Want(0)
	h.Exec("dnsmasq", "--conf-file="+conf).Want(0)
	if !await(5*time.Second, func() bool { return hasFile(h.Root+"/dns") && len(h.Processes()) > 0 }) {
		h.t.Fatal("dnsmasq did not start")
	}
}

// buildInit makes the smallest root file system: one static program that waits.
func (h *Hypervisor) buildInit(rootfs string) {
	h.t.Helper()
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(rootfs, dir), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	source := filepath.Join(h.t.TempDir(), "init.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(10 * "+
		"time.Minute) }\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
	if _, err := tool(append(os.Environ(), "CGO_ENABLED=0"), "go", "build", "-o", filepath.Join(rootfs, "init"),
		source); err != nil {
		h.t.Fatal(err)
	}
}
