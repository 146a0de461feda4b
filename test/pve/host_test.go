package pve

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
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var ids = []string{"103", "101", "102"}

// names the fakes are called by.
var names = []string{"pct", "pvesm", "pvesh", "lxc-info", "lxc-attach", "init", "pve-firewall"}

// hypervisor is a network namespace and a tmpfs: bin has phoenix and the fakes, all else is what phoenix makes.
type hypervisor struct {
	t    *testing.T
	name string // of the namespace
	base string
}

// hosts counts them, as several may be there at once.
var hosts atomic.Int32

func (h *hypervisor) path(parts ...string) string {
	return filepath.Join(append([]string{h.base}, parts...)...)
}

func newHost(t *testing.T) *hypervisor {
	t.Helper()
	if err := missing(); err != nil {
		t.Skip(err)
	}
	// The path is the same in every run: it is part of what is compared.
	h := &hypervisor{t: t, name: fmt.Sprintf("%s-pve-%d-%d", cmp.Or(os.Getenv("PHOENIX_TEST_PREFIX"), "phx"),
		os.Getpid(), hosts.Add(1))}
	var err error
	if h.base, err = os.MkdirTemp("", "phxpve-"); err != nil {
		t.Fatal(err)
	}
	h.command("mount", "-t", "tmpfs", "-o", "mode=0711", "phxpve", h.base)
	h.command("ip", "netns", "add", h.name)
	t.Cleanup(h.destroy)
	h.command("ip", "-n", h.name, "link", "set", "lo", "up")
	h.groups()
	h.build()
	return h
}

// groups makes place for control groups (fakes/group.go). What is mounted over the second tree are files of the test's
// own: a machine that has the controllers in the first generation has no limits in it.
func (h *hypervisor) groups() {
	h.t.Helper()
	for _, m := range []struct{ fs, name string }{{"cgroup2", "processes"}, {"cgroup2", "files"}, {"tmpfs", "files"}} {
		if err := os.MkdirAll(h.path("groups", m.name), 0o755); err != nil {
			h.t.Fatal(err)
		}
		h.command("mount", "-t", m.fs, "phxpve", h.path("groups", m.name))
	}
}

// ungroup takes the groups away, from the innermost one on: nothing is in them any more.
func (h *hypervisor) ungroup() {
	h.t.Helper()
	var dirs []string
	err := filepath.WalkDir(h.path("groups", "processes", filepath.Base(h.base)),
		func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Error(err)
	}
	for _, dir := range slices.Backward(dirs) {
		err := os.Remove(dir)
		for range 50 { // an init that was killed leaves its group when it has ended, after its files are closed
			if !errors.Is(err, syscall.EBUSY) {
				break
			}
			time.Sleep(100 * time.Millisecond)
			err = os.Remove(dir)
		}
		if err != nil {
			h.t.Error(err)
		}
	}
	for _, name := range []string{"files", "files", "processes"} {
		h.command("umount", h.path("groups", name))
	}
}

// missing says why this cannot run here.
func missing() error {
	if os.Geteuid() != 0 {
		return errors.New("a network namespace needs root")
	}
	for _, tool := range []string{"ip", "nsenter", "dnsmasq", "setfattr"} {
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

// programs are built once for all tests.
var programs = sync.OnceValues(func() (string, error) {
	for program, source := range map[string]string{"phoenix": "./test/kill/phoenix", "fakes": "./test/pve/fakes"} {
		out := filepath.Join(built, program)
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, source)
		build.Dir, build.Env = repo(), append(os.Environ(), "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w\n%s", build, err, said)
		}
	}
	return built, nil
})

// built is the directory of the programs.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "phxpve-programs-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built) // it is a temporary one
	os.Exit(code)
}

func (h *hypervisor) build() {
	h.t.Helper()
	if err := os.CopyFS(h.path("config"), os.DirFS(filepath.Join(repo(), "examples", "homelab"))); err != nil {
		h.t.Fatal(err)
	}
	dir, err := programs()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.CopyFS(h.path("bin"), os.DirFS(dir)); err != nil {
		h.t.Fatal(err)
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
	for _, link := range []string{"phxbr0", "vmbr0"} {
		_ = exec.Command("ip", "-n", h.name, "link", "delete", link).Run() // there may be none
	}
	left, err := os.ReadDir(h.base)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range left {
		if !slices.Contains([]string{"bin", "config", "groups", "programs"}, e.Name()) {
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
	h.install()
}

// end kills every process in the namespace and waits until they are gone.
func (h *hypervisor) end() {
	for range 1000 {
		pids := h.processes()
		if len(pids) == 0 {
			return
		}
		for pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // may have ended by itself
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
	h.t.Errorf("processes do not end: %v", h.processes())
}

// processes are all in the namespace and the containers' inits, by what they are called.
func (h *hypervisor) processes() map[int]string {
	out, err := exec.Command("ip", "netns", "pids", h.name).Output()
	if err != nil {
		h.t.Fatalf("ip netns pids %s: %v", h.name, err)
	}
	found := map[int]string{}
	for field := range strings.FieldsSeq(string(out)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			h.t.Fatal(err)
		}
		if name, err := os.ReadFile("/proc/" + field + "/comm"); err == nil {
			found[pid] = strings.TrimSpace(string(name))
		}
	}
	inits, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, path := range inits { // those of containers are in namespaces of their own
		environ, err := os.ReadFile(path)
		pid, perr := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if vars := strings.Split(string(environ), "\x00"); err == nil && perr == nil &&
			vars[0] == "PHX_PROXMOX="+h.base && len(vars) > 1 && strings.HasPrefix(vars[1], "PHX_ID=") {
			found[pid] = "init"
		}
	}
	return found
}

func (h *hypervisor) destroy() {
	h.end()
	h.ungroup()
	h.command("ip", "netns", "delete", h.name)
	for range 50 { // what a killed phoenix had started may only just be ending
		if syscall.Unmount(h.base, 0) == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err := os.Remove(h.base); err != nil {
		h.t.Error(err)
	}
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

// phoenix runs one command. env is added for the hypervisor's phoenix alone.
func (h *hypervisor) phoenix(env []string, args ...string) result {
	h.t.Helper()
	cmd := h.exec(env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second // what outlives a killed phoenix may hold the pipes
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// exec is one command, ready to start.
func (h *hypervisor) exec(env []string, args ...string) *exec.Cmd {
	argv := append([]string{"--net=/run/netns/" + h.name, h.path("bin", "phoenix"), "--config", h.path("config"),
		"--root", h.path("root"), "--runtime", "auto", "--timeout", "2m", "-o", "json"}, args...)
	cmd := exec.Command("nsenter", argv...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATH=") }),
		"PATH="+h.path("bin")+":"+os.Getenv("PATH"), "PHOENIX_CACHE="+h.path("cache"))
	cmd.Env = append(cmd.Env, "PHX_PROXMOX="+h.base, "PHX_IDS="+h.path("ids"))
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// document is what apply and plan print.
type document struct {
	Changes []struct {
		Address string `json:"address"`
		Action  string `json:"action"`
	} `json:"changes"`
	Mutations int `json:"mutations"`
}

func (h *hypervisor) changes(want int, args ...string) (document, result) {
	h.t.Helper()
	r := h.phoenix(nil, args...)
	var doc document
	if err := json.Unmarshal([]byte(r.stdout), &doc); r.exit != want || err != nil || doc.Changes == nil {
		h.t.Fatalf("%v: want exit %d and a document (%v)\n%s", args, want, err, r)
	}
	return doc, r
}

// state is everything that stands after a run: files with mode, owner and content, the bridge, processes. Left out is
// the content of what is another in each run: the CA's root and what is derived from it, process ids, the memory of
// digests.
func (h *hypervisor) state() []string {
	h.t.Helper()
	out := h.guests()
	for _, top := range []string{"root", "cache"} {
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
	if !fi.Mode().IsRegular() || variable {
		return line, nil
	}
	content, err := os.ReadFile(path)
	return fmt.Sprintf("%s %x", line, sha256.Sum256(content)), err
}
