// Command fakes stands in for the tools of a hypervisor that need containers: lxc-start, lxc-stop, lxc-info,
// lxc-attach, lxc-usernsexec and mmdebstrap, by the name it is called by, and for any program that fails, hangs or says
// nonsense. They do as the real ones as far as phoenix looks. A running container is a process that only waits. All
// state is in the directory above the one that the fakes lie in:
//
//	env.ID     lines NAME=VALUE for the phoenix inside
//	agent.ID   where it is there: fail, hang or garbage, which the agent inside then does, or hostile and a way to be so
//	pids/ID    a line with the id of the process that is the container's init
package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	name := filepath.Base(os.Args[0])
	tools := map[string]func(call) error{
		"lxc-start": start, "lxc-stop": stop, "lxc-info": info, "lxc-attach": attach, "lxc-usernsexec": mapped,
		"mmdebstrap": bootstrap, "init": wait, "fail": fail, "hang": hang, "garbage": garbage,
		"hostile": hostile,
	}
	err := fmt.Errorf("no fake of %s", name)
	if tool := tools[name]; tool != nil {
		err = tool(parse(os.Args[1:]))
	}
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

type exitCode int

func (e exitCode) Error() string { return "exit " + strconv.Itoa(int(e)) }

// call is a command line of lxc's tools.
type call struct {
	path, id, state string
	args, behind    []string // all; those behind --
}

func parse(args []string) call {
	c := call{args: args}
	for i, a := range args {
		switch {
		case a == "--":
			c.behind = args[i+1:]
			c.done()
			return c
		case a == "-P" && i+1 < len(args):
			c.path = args[i+1]
		case a == "-n" && i+1 < len(args):
			c.id = args[i+1]
		}
	}
	c.done()
	return c
}

func (c *call) done() {
	if found, err := exec.LookPath(filepath.Base(os.Args[0])); err == nil {
		c.state = filepath.Dir(filepath.Dir(found))
	}
}

func (c call) home() string    { return filepath.Join(c.path, c.id) }
func (c call) rootfs() string  { return filepath.Join(c.home(), "rootfs") }
func (c call) pidFile() string { return filepath.Join(c.state, "pids", c.id) }

// pid of the container's init; 0: it does not run.
func (c call) pid() int {
	raw, err := os.ReadFile(c.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || !alive(pid) {
		return 0
	}
	return pid
}

// alive passes over a process that has ended and was not waited for.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return len(f) > 0 && f[0] != "Z"
}

// start refuses a container that runs, as lxc-start does, and one at a time works on a container: that of a phoenix
// which was killed may still be under way.
func start(c call) error {
	if err := os.MkdirAll(filepath.Dir(c.pidFile()), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(c.pidFile()+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if c.pid() != 0 {
		//lint:ignore ST1005 the words are lxc's
		return errors.New("Container is already running")
	}
	config, err := os.ReadFile(filepath.Join(c.home(), "config"))
	if err != nil {
		//lint:ignore ST1005 the words are lxc's
		return errors.New("No such file or directory - Failed to load config")
	}
	if _, err := os.Stat(c.rootfs()); err != nil {
		return err
	}
	init := exec.Command(filepath.Join(c.state, "bin", "init"), "-P", c.path, "-n", c.id)
	init.Env = []string{value(string(config), "lxc.environment")}
	for line := range strings.Lines(string(config)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "lxc.mount.entry = "); ok {
			if _, err := os.Stat(strings.Fields(v)[0]); err != nil {
				return fmt.Errorf("mount of a volume: %w", err)
			}
		}
	}
	if err := plug(string(config), c.id); err != nil {
		return err
	}
	init.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS}
	booted, err := init.StdoutPipe()
	if err != nil {
		return err
	}
	if err := init.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(booted).ReadString('\n'); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	return nil
}

// value of a key that stands once in a configuration.
func value(config, key string) string {
	_, after, _ := strings.Cut(config, key+" = ")
	v, _, _ := strings.Cut(after, "\n")
	return v
}

// plug makes the container's interface with its address. Both ends stay on the hypervisor.
func plug(config, id string) error {
	port, bridge, peer := value(config, "lxc.net.0.veth.pair"), value(config, "lxc.net.0.link"), "in"+id
	address, _, _ := strings.Cut(value(config, "lxc.net.0.ipv4.address"), "/")
	// of a start that was killed: a real one goes with its namespace
	_ = exec.Command("ip", "link", "delete", "dev", peer).Run()
	in := fmt.Sprintf("link add name %s type veth peer name %s\nlink set dev %s master %s up\nlink set dev %s "+
		"up\naddress add %s/32 dev %s\n",
		port, peer, port, bridge, peer, address, peer)
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader(in)
	if out, err := ip.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// wait is a container's init: it sees its root file system and its volumes.
func wait(c call) error {
	c.state = filepath.Dir(filepath.Dir(os.Args[0]))
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	config, err := os.ReadFile(filepath.Join(c.home(), "config"))
	if err != nil {
		return err
	}
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	for line := range strings.Lines(string(config)) {
		v, ok := strings.CutPrefix(strings.TrimSpace(line), "lxc.mount.entry = ")
		if !ok {
			continue
		}
		source, target := strings.Fields(v)[0], filepath.Join(c.rootfs(), strings.Fields(v)[1])
		if err := errors.Join(os.MkdirAll(target, 0o755),
			syscall.Mount(source, target, "", syscall.MS_BIND, "")); err != nil {
			return err
		}
	}
	written := os.WriteFile(c.pidFile(), []byte(strconv.Itoa(os.Getpid())), 0o644)
	if err := errors.Join(written, syscall.Chroot(c.rootfs()), os.Chdir("/")); err != nil {
		return err
	}
	fmt.Println("booted") // where lxc-start was killed meanwhile, the container ends with it
	<-ended
	return nil
}

func stop(c call) error {
	pid := c.pid()
	if pid == 0 {
		fmt.Fprintln(os.Stderr, c.id+" is not running")
		return exitCode(2)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		<-tick.C
	}
	if out, err := exec.Command("ip", "link", "delete", "dev", "in"+c.id).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.Remove(c.pidFile())
}

func info(c call) error {
	if _, err := os.Stat(filepath.Join(c.home(), "config")); err != nil {
		return errors.New(c.id + " doesn't exist")
	}
	pid := c.pid()
	if slices.Contains(c.args, "-H") && slices.Contains(c.args, "-s") {
		fmt.Println(map[bool]string{true: "RUNNING", false: "STOPPED"}[pid != 0])
		return nil
	}
	if slices.Contains(c.args, "-H") {
		if pid != 0 {
			fmt.Println(pid)
		}
		return nil
	}
	if pid != 0 {
		fmt.Printf("State:          RUNNING\nPID:            %d\n", pid)
		return nil
	}
	fmt.Println("State:          STOPPED")
	return nil
}

func attach(c call) error {
	if c.pid() == 0 {
		//lint:ignore ST1005 the words are lxc's
		return errors.New("Failed to get init pid")
	}
	switch argv := c.behind; {
	case slices.Equal(argv[:min(2, len(argv))], []string{"systemctl", "is-system-running"}):
		fmt.Println("running")
		return nil
	case argv[0] == "sh" && len(argv) > 4: // sh -c SCRIPT sh TARGET...
		argv = slices.Clone(argv)
		argv[4] = filepath.Join(c.rootfs(), argv[4])
		return replace(os.Environ(), argv...)
	case len(argv) > 2 && argv[1] == "agent":
		return agent(c, argv)
	}
	return fmt.Errorf("nothing is known of %q", c.behind)
}

// agent runs the phoenix that lies in the root file system, with a /run/phoenix of the container's own.
func agent(c call, argv []string) error {
	run := filepath.Join(c.state, "run", c.id)
	for _, dir := range []string{run, "/run/phoenix", filepath.Join(c.rootfs(), "objects")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	err := errors.Join(syscall.Unshare(syscall.CLONE_NEWNS),
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount(run, "/run/phoenix", "", syscall.MS_BIND, ""))
	if err != nil {
		return err
	}
	if ill, err := os.ReadFile(filepath.Join(c.state, "agent."+c.id)); err == nil {
		words := append(strings.Fields(string(ill)), argv[2])
		words[0] = filepath.Join(c.state, "bin", words[0])
		return replace(os.Environ(), words...)
	}
	env := append(os.Environ(), "PHX_INSIDE="+filepath.Join(c.rootfs(), "objects"),
		"PHX_VOLUMES="+filepath.Join(filepath.Dir(c.path), "volumes", c.id))
	more, err := os.ReadFile(filepath.Join(c.state, "env."+c.id))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(more)) {
		env = append(env, strings.TrimSuffix(line, "\n"))
	}
	return replace(env, append([]string{filepath.Join(c.rootfs(), argv[0])}, argv[1:]...)...)
}

// mapped runs a command without an id map. What would need a whole root file system leaves a mark only.
func mapped(c call) error {
	if c.behind[0] == "chroot" {
		script := bufio.NewReader(os.Stdin)
		if _, err := script.ReadString('\n'); err != nil {
			return err
		}
		fmt.Println("fit")
		return os.WriteFile(filepath.Join(c.behind[1], "fit"), []byte("done\n"), 0o644)
	}
	return replace(os.Environ(), c.behind...)
}

func replace(env []string, argv ...string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, env)
}

// bootstrap writes the archive of the smallest system: that of a real one is looked at by nobody here.
func bootstrap(c call) error {
	i := slices.IndexFunc(c.args,
		func(a string) bool { return strings.HasSuffix(a, ".tmp") || strings.HasSuffix(a, ".tar") })
	if i < 0 {
		return fmt.Errorf("no archive in %q", c.args)
	}
	f, err := os.Create(c.args[i])
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	for _, dir := range []string{"./", "./dev/", "./etc/", "./usr/", "./usr/local/", "./usr/local/lib/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	const release = "ID=debian\n"
	if err := w.WriteHeader(&tar.Header{Name: "./etc/os-release", Mode: 0o644, Size: int64(len(release))}); err != nil {
		return err
	}
	if _, err := w.Write([]byte(release)); err != nil {
		return err
	}
	return errors.Join(w.Close(), f.Close())
}
