package kill

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	ids    = []string{"103", "101", "102"}
	create = append([]string{"create"}, ids...)
)

// names the fakes are called by.
var names = []string{
	"lxc-start", "lxc-stop", "lxc-info", "lxc-attach", "lxc-usernsexec", "mmdebstrap", "init", "fail", "hang",
	"garbage", "hostile",
}

// hypervisor is a network namespace and a tmpfs: bin has phoenix and the fakes, all else is what phoenix makes.
type hypervisor struct {
	t    *testing.T
	name string   // of the namespace
	base string   // the directory
	want []string // its state after a run without a fault
	made []point  // what that run did
}

// house is all hypervisors of this process: as many as keep the machine busy, as much of a run is waiting.
var house []*hypervisor

// sites are those with one hostile container.
var sites []*hypervisor

func TestMain(m *testing.M) {
	code := m.Run()
	for _, h := range slices.Concat(house, sites) {
		if err := h.destroy(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// hypervisors are those of the house, each with its reference.
func hypervisors(t *testing.T) []*hypervisor {
	t.Helper()
	if err := missing(); err != nil {
		t.Skip(err)
	}
	for len(house) < runtime.GOMAXPROCS(0)+1 {
		h := &hypervisor{name: fmt.Sprintf("%s-kill-%d-%d", cmp.Or(os.Getenv("PHOENIX_TEST_PREFIX"), "phx"),
			os.Getpid(), len(house))}
		house = append(house, h)
		h.in(t).stand(h)
	}
	var all []*hypervisor
	for _, h := range house {
		if h.want == nil {
			t.Fatal("no hypervisor: see the first test that failed")
		}
		all = append(all, h.in(t))
	}
	return all
}

// stand makes the hypervisor; whole is where its parts are kept.
func (h *hypervisor) stand(whole *hypervisor) {
	h.t.Helper()
	var err error
	if h.base, err = os.MkdirTemp("", "phxkill-"); err != nil {
		h.t.Fatal(err)
	}
	whole.base = h.base
	h.command("mount", "-t", "tmpfs", "-o", "mode=0711", "phxkill", h.base)
	h.command("ip", "netns", "add", h.name)
	h.command("ip", "-n", h.name, "link", "set", "lo", "up")
	h.build()
	h.reference()
	whole.want, whole.made = h.want, h.made
}

// everywhere does all cases, each in a subtest, on as many hypervisors at once as there are.
func everywhere[C fmt.Stringer](t *testing.T, all []*hypervisor, cases []C, do func(*hypervisor, C)) {
	t.Helper()
	queue := make(chan C)
	var group sync.WaitGroup
	for _, h := range all {
		group.Go(func() {
			for c := range queue {
				t.Run(c.String(), func(t *testing.T) { do(h.in(t), c) })
			}
		})
	}
	for _, c := range cases {
		queue <- c
	}
	close(queue)
	group.Wait()
}

func (h *hypervisor) path(parts ...string) string {
	return filepath.Join(append([]string{h.base}, parts...)...)
}

// in is the same hypervisor for a test.
func (h *hypervisor) in(t *testing.T) *hypervisor {
	other := *h
	other.t = t
	return &other
}

// missing says why this cannot run here.
func missing() error {
	if os.Geteuid() != 0 {
		return errors.New("a network namespace needs root")
	}
	for _, tool := range []string{"ip", "nsenter", "dnsmasq", "setfattr", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("needs %s: run make deps", tool)
		}
	}
	return nil
}

func repo() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

func (h *hypervisor) build() {
	h.t.Helper()
	if err := os.Mkdir(h.path("bin"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.CopyFS(h.path("config"), os.DirFS(filepath.Join(repo(), "examples", "homelab"))); err != nil {
		h.t.Fatal(err)
	}
	for _, program := range []string{"phoenix", "fakes"} {
		if first := slices.Concat(house, sites)[0]; first.base != h.base {
			h.command("cp", first.path("bin", program), h.path("bin", program))
			continue
		}
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", h.path("bin", program),
			"./test/kill/"+program)
		build.Dir, build.Env = repo(), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			h.t.Fatalf("%v: %v\n%s", build, err, out)
		}
	}
	for _, name := range names {
		if err := os.Link(h.path("bin", "fakes"), h.path("bin", name)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.write("a program", "programs", "step-ca")
	h.write("another", "programs", "traefik")
	h.age()
}

// age makes the programs as old as installed ones are: phoenix remembers no digest of a file that was just written, and
// whether a run remembers it must not depend on how soon after the build it comes.
func (h *hypervisor) age() {
	h.t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, path := range []string{h.path("bin", "phoenix"), h.path("programs", "step-ca"),
		h.path("programs", "traefik")} {
		if err := os.Chtimes(path, old, old); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *hypervisor) write(text string, parts ...string) {
	h.t.Helper()
	path := h.path(parts...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		h.t.Fatal(err)
	}
}

// reset leaves nothing of what phoenix made: no process, no bridge, no file.
func (h *hypervisor) reset() {
	h.t.Helper()
	h.end()
	links := exec.Command("ip", "-n", h.name, "-force", "-batch", "-")
	links.Stdin = strings.NewReader("link delete phxbr0\nlink delete in103\nlink delete in101\nlink delete " +
		"in102\nlink delete in201\n")
	_ = links.Run() // there may be none
	h.command("nsenter", "--net=/run/netns/"+h.name, "nft", "flush", "ruleset")
	left, err := os.ReadDir(h.base)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range left {
		if !slices.Contains([]string{"bin", "config", "programs"}, e.Name()) {
			if err := os.RemoveAll(h.path(e.Name())); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	index := map[string]map[string]string{}
	for _, name := range []string{"step-ca", "traefik"} {
		content, err := os.ReadFile(h.path("programs", name))
		if err != nil {
			h.t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		index[name] = map[string]string{"path": h.path("programs", name), "sha256": hex.EncodeToString(sum[:])}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(string(raw), "cache", "artifacts", "index.json")
}

// end kills every process in the namespace and waits until they are gone.
func (h *hypervisor) end() {
	h.t.Helper()
	if err := endAll(h.name); err != nil {
		h.t.Error(err)
	}
}

func endAll(namespace string) error {
	for range 1000 {
		pids, err := inside(namespace)
		if len(pids) == 0 || err != nil {
			return err
		}
		for pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // may have ended by itself
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
	return fmt.Errorf("processes in %s do not end", namespace)
}

// processes are all in the namespace, by what they are called.
func (h *hypervisor) processes() map[int]string {
	h.t.Helper()
	found, err := inside(h.name)
	if err != nil {
		h.t.Fatal(err)
	}
	return found
}

func inside(namespace string) (map[int]string, error) {
	out, err := exec.Command("ip", "netns", "pids", namespace).Output()
	if err != nil {
		return nil, fmt.Errorf("ip netns pids %s: %w", namespace, err)
	}
	found := map[int]string{}
	for field := range strings.FieldsSeq(string(out)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		if name, err := os.ReadFile("/proc/" + field + "/comm"); err == nil {
			found[pid] = strings.TrimSpace(string(name))
		}
	}
	return found, nil
}

// destroy leaves nothing.
func (h *hypervisor) destroy() error {
	err := endAll(h.name)
	for _, argv := range [][]string{{"ip", "netns", "delete", h.name}, {"umount", h.base}} {
		if out, failed := exec.Command(argv[0], argv[1:]...).CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("%v: %w\n%s", argv, failed, out))
		}
	}
	return errors.Join(err, os.Remove(h.base))
}

func (h *hypervisor) command(argv ...string) string {
	h.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		h.t.Errorf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// result is one phoenix command that has ended.
type result struct {
	stdout, stderr string
	exit           int // -1: by a signal
}

func (r result) String() string { return fmt.Sprintf("exit %d\n%s%s", r.exit, r.stdout, r.stderr) }

// process is a phoenix that runs.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr said
}

// said is what a process has said so far.
type said struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// phoenix runs one command. env is added for the hypervisor's phoenix alone.
func (h *hypervisor) phoenix(env []string, args ...string) result {
	h.t.Helper()
	return h.start(env, args...).wait()
}

func (h *hypervisor) start(env []string, args ...string) *process {
	h.t.Helper()
	// With a /sys of the namespace: the bridge's switches are in there.
	argv := append([]string{"--net=/run/netns/" + h.name, "sh", "-c", `mount -t sysfs sysfs /sys && exec "$@"`, "sh",
		h.path("bin", "phoenix"), "--config", h.path("config"),
		"--root", h.path("root"), "--runtime", "lxc", "--timeout", "2m", "-o", "json"}, args...)
	p := &process{t: h.t,
		cmd: exec.Command("unshare", append([]string{"--mount", "--propagation", "slave", "nsenter"}, argv...)...)}
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATH=") }),
		"PATH="+h.path("bin")+":"+os.Getenv("PATH"), "PHOENIX_CACHE="+h.path("cache"), "PHX_IDS="+h.path("ids"))
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = 5 * time.Second // what outlives a killed phoenix may hold the pipes
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (p *process) wait() result {
	p.t.Helper()
	if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return result{p.stdout.String(), p.stderr.String(), p.cmd.ProcessState.ExitCode()}
}

type change struct {
	Address string `json:"address"`
	Action  string `json:"action"`
}

// document is what apply and plan print.
type document struct {
	Changes   []change `json:"changes"`
	Mutations int      `json:"mutations"`
	Failures  []struct {
		Address   string `json:"address"`
		Message   string `json:"message"`
		Hint      string `json:"hint"`
		BlockedBy string `json:"blocked_by"`
	} `json:"failures"`
	Stopped string   `json:"stopped"`
	Left    []string `json:"left"`
}

func (h *hypervisor) changes(want int, args ...string) (document, result) {
	h.t.Helper()
	r := h.phoenix(nil, args...)
	if r.exit != want {
		h.t.Fatalf("%v: want exit %d\n%s", args, want, r)
	}
	return h.document(r), r
}

func (h *hypervisor) document(r result) (doc document) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || doc.Changes == nil {
		h.t.Fatalf("want a document (%v)\n%s", err, r)
	}
	return doc
}

// state is everything that stands after a run: files with mode, owner and content, the bridge, processes. Left out is
// the content of what is another in each run: the CA's root and what is derived from it, process ids, the memory of
// digests, the lock's last holder, and what was applied when.
func (h *hypervisor) state() []string {
	h.t.Helper()
	var out []string
	for _, top := range []string{"root", "cache", "ids"} {
		err := filepath.WalkDir(h.path(top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			line, err := describe(path)
			out = append(out, line)
			return err
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	for _, name := range h.processes() {
		out = append(out, "process "+name)
	}
	out = append(out, h.links()...)
	for _, family := range []string{"bridge", "inet"} { // in the order in which they were made
		for table := range strings.SplitSeq(h.command("nsenter", "--net=/run/netns/"+h.name, "nft", "--stateless",
			"list", "ruleset", family), "\n}\n") {
			out = append(out, table)
		}
	}
	slices.Sort(out)
	return out
}

// links are the interfaces with what phoenix has to do with.
func (h *hypervisor) links() (out []string) {
	h.t.Helper()
	var links []struct {
		Name      string   `json:"ifname"`
		Flags     []string `json:"flags"`
		Master    string   `json:"master"`
		Addresses []struct {
			Local string `json:"local"`
			Scope string `json:"scope"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(h.command("ip", "-n", h.name, "-json", "address")), &links); err != nil {
		h.t.Fatal(err)
	}
	for _, l := range links {
		line := fmt.Sprintf("link %s up %v in %q", l.Name, slices.Contains(l.Flags, "UP"), l.Master)
		for _, a := range l.Addresses {
			if a.Scope == "global" {
				line += " " + a.Local
			}
		}
		out = append(out, line)
	}
	return out
}

func describe(path string) (string, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	st := fi.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("%s %s %d:%d", path, fi.Mode(), st.Uid, st.Gid)
	variable := strings.Contains(path, "/objects/") || strings.HasSuffix(path, "/ssl/root") ||
		strings.Contains(path, "/pins/") ||
		strings.HasSuffix(path, ".pid") || strings.HasSuffix(path, "/digests.json") ||
		strings.HasSuffix(path, "/root/lock") ||
		strings.HasSuffix(path, "/root/applied.json")
	if fi.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(path)
		return line + " -> " + target, err
	}
	if !fi.Mode().IsRegular() || variable {
		return line, nil
	}
	content, err := os.ReadFile(path)
	return fmt.Sprintf("%s %x", line, sha256.Sum256(content)), err
}
