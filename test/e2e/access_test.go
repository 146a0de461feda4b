package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reached has a client of the LAN get to the gateway by the hypervisor's own address, with nothing but the root and a
// name; and not any more once the key is out of the file.
func (h *Hypervisor) reached(t *testing.T) {
	lan, root := h.Name+"-lan", filepath.Join(t.TempDir(), "phoenix-root.crt")
	command(t, "ip", "netns", "add", lan)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", lan).Run() })
	for _, line := range []string{
		h.Name + " link add phxlan type veth peer name eth0 netns " + lan, h.Name +
			" address add 192.168.86.1/24 dev phxlan", h.Name + " link set phxlan up",
		h.Name + " route add default via 192.168.86.2 dev phxlan onlink", lan +
			" address add 192.168.86.2/24 dev eth0", lan + " link set eth0 up",
	} {
		command(t, append([]string{"ip", "-n"}, strings.Fields(line)...)...)
	}
	trust := h.Phoenix("access", "--trust", "--write", root).Want(0).Stdout
	if !strings.Contains(trust, "may sign for homelab.internal, 10.86.17.0/24, 127.0.0.1/32, and nothing else") {
		t.Errorf("the root is not limited to the site:\n%s", trust)
	}
	ask := func() string {
		out, _ := exec.Command("ip", "netns", "exec", lan, "curl", "--silent", "--max-time", "10", "--cacert", root,
			"--resolve", "hello.homelab.internal:443:192.168.86.1",
			"--output", "/dev/null", "--write-out", "%{http_code}", "https://hello.homelab.internal/").Output()
		return string(out)
	}
	if got := ask(); got != "000" {
		t.Errorf("nobody asked for it, and a client of the LAN gets %s", got)
	}
	h.edits(func(all map[string]any) { all["access"] = "forward" })
	if said := h.Phoenix("access").Want(0).Stdout; !strings.Contains(said, "this machine is 192.168.86.1 on phxlan") {
		t.Error(said)
	}
	h.Phoenix("apply").Want(0)
	if got := ask(); got != "200" {
		t.Errorf("a client of the LAN gets %s\n%s", got, h.Exec("nft", "list", "ruleset").Stdout)
	}
	if r := h.Phoenix("health", "-q").Want(0); r.Stdout+r.Stderr != "" {
		t.Errorf("cron would send mail where all is well:\n%s", r)
	}
	h.WantNoChange("101")
	table := regexp.MustCompile(`phoenix_access_\S+`).FindString(h.Exec("nft", "list", "tables").Want(0).Stdout)
	h.Exec("nft", "delete", "table", "inet", table).Want(0)
	if r := h.Phoenix("health", "-q").Want(3); !strings.Contains(r.Stdout+r.Stderr, "PHX-ACC-001") {
		t.Errorf("a lost table is not told:\n%s", r)
	}
	h.Phoenix("apply").Want(0)
	if got := ask(); got != "200" {
		t.Errorf("after it was repaired, a client of the LAN gets %s", got)
	}
	h.edits(func(all map[string]any) { delete(all, "access") })
	h.Phoenix("apply").Want(0)
	left := h.Exec("sh", "-c", "nft list tables; cat /proc/sys/net/ipv4/conf/phxlan/forwarding "+
		"/proc/sys/net/ipv4/conf/phxbr0/forwarding").Want(0).Stdout
	if got := ask(); got != "000" || strings.Contains(left, "phoenix_access") || !strings.HasSuffix(left, "0\n0\n") {
		t.Errorf("without the key a client of the LAN gets %s; left: %s", got, left)
	}
	h.WantNoChange("101")
	command(t, "ip", "-n", h.Name, "link", "delete", "phxlan")
}

// supervised runs the loop of docs/without-systemd.md: a watch that is killed comes back, and both end when the loop is
// told to.
func (h *Hypervisor) supervised(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(repo(), "docs", "without-systemd.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(raw), -1)
	if len(blocks) != 3 || !strings.Contains(string(raw), "phoenix health -q\n") {
		t.Fatalf("%d recipes", len(blocks))
	}
	for _, b := range blocks {
		if out, err := exec.Command("sh", "-n", "-c", b[1]).CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, b[1])
		}
	}
	dir := t.TempDir()
	const begin, log = "/usr/local/bin/phoenix watch", "/var/log/phoenix-watch.log"
	text := strings.Replace(strings.Replace(blocks[0][1], begin, strings.Join(h.argv([]string{"watch"}), " "), 1),
		log, filepath.Join(dir, "log"), 1)
	if text == blocks[0][1] || strings.Contains(text, begin) {
		t.Fatalf("the loop begins something else:\n%s", text)
	}
	script := filepath.Join(dir, "phoenix-watch")
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	argv := h.inside([]string{script})
	loop := exec.Command(argv[0], argv[1:]...)
	loop.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := loop.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- loop.Wait() }()
	defer func() { _ = syscall.Kill(-loop.Process.Pid, syscall.SIGKILL) }()
	var first int
	if !await(time.Minute, func() bool { first = h.watching(dir); return first != 0 }) {
		t.Fatal("the loop begins no watch")
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !await(time.Minute, func() bool { again := h.watching(dir); return again != 0 && again != first }) {
		t.Fatal("a watch that was killed does not come back")
	}
	if err := syscall.Kill(loop.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the loop ends with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the loop does not end")
	}
	if pid := h.watching(dir); pid != 0 {
		t.Errorf("watch, process %d, is left", pid)
	}
}

// watching is the process of a watch that said in dir/log that it began; 0: there is none.
func (h *Hypervisor) watching(dir string) int {
	for _, pid := range h.Processes() {
		cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline") // it may end meanwhile
		argv := strings.Split(string(cmdline), "\x00")
		if said, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && argv[0] == h.bin &&
			slices.Contains(argv, "watch") &&
			strings.Contains(string(said), "(pid "+pid+")") {
			n, _ := strconv.Atoi(pid) // it is one
			return n
		}
	}
	return 0
}
