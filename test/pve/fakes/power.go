package main

import (
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

// pid of the container's init; 0: it does not run.
func (b base) pid(id string) int {
	raw, err := os.ReadFile(b.path("pids", id))
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

func (b base) start(c call) error {
	id := c.words[0]
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	if asked, err := b.requested("start", id); asked {
		return err
	}
	switch {
	case !b.quorate():
		return errors.New("cluster not ready - no quorum?")
	case conf.keys["lock"] != "":
		return locked(conf.keys["lock"])
	case b.pid(id) != 0 || b.monitored(id):
		return fmt.Errorf("CT %s already running", id)
	}
	if err := b.bridge(conf); err != nil {
		return err
	}
	if err := errors.Join(b.give(id, conf), os.MkdirAll(b.path("pids"), 0o755)); err != nil {
		return err
	}
	if err := b.permitted(id, conf); err != nil {
		return err
	}
	if err := errors.Join(b.sources(id, conf), b.preStart(id, conf), b.limit(id, conf)); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGTERM) // from here on it is done
	init := exec.Command(b.path("bin", "init"))
	init.Env = []string{"PHX_PROXMOX=" + string(b), "PHX_ID=" + id, "PATH=" + os.Getenv("PATH")}
	init.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	if err := init.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(b.path("pids", id), []byte(strconv.Itoa(init.Process.Pid)), 0o644); err != nil {
		return err
	}
	for alive(init.Process.Pid) && !b.booted(id) {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// monitored tells whether the monitor of a container that has ended still does what is left to do: as long as the file
// post-stop says, from when somebody first looks. For Proxmox the container runs until then.
func (b base) monitored(id string) bool {
	raw, err := os.ReadFile(b.path("post-stop"))
	took, perr := time.ParseDuration(strings.TrimSpace(string(raw)))
	was, rerr := os.ReadFile(b.path("lib", id, "booted")) // by the init that ended
	if err != nil || perr != nil || rerr != nil {
		return false
	}
	mark := b.path("lib", id, "ended."+strings.TrimSpace(string(was)))
	if fi, err := os.Stat(mark); err == nil {
		return time.Since(fi.ModTime()) < took
	}
	return os.WriteFile(mark, nil, 0o644) == nil
}

// bridge is looked for only by a test that names those that there are.
func (b base) bridge(conf *conf) error {
	names, err := os.ReadFile(b.path("bridges"))
	if want := parse(conf.keys["net0"], "").of["bridge"]; err == nil &&
		!slices.Contains(strings.Fields(string(names)), want) {
		return fmt.Errorf("bridge '%s' does not exist", want)
	}
	return nil
}

// sources fails as the real one where a directory, or a dataset of a pool that is away, is missing: it speaks of a
// script.
func (b base) sources(id string, conf *conf) error {
	var directories []string
	for k, v := range conf.keys {
		word := parse(v, "volume").word
		if pool, _, _ := strings.Cut(word, ":"); mountKey.MatchString(k) || k == "rootfs" {
			if s, err := b.storage(pool); err == nil && s.kind == "zfspool" {
				word, _ = b.locate(word)
			}
		}
		if !mountKey.MatchString(k) && k != "rootfs" || !filepath.IsAbs(word) {
			continue
		}
		directories = append(directories, word)
	}
	for source := range conf.binds() {
		directories = append(directories, source)
	}
	for _, dir := range directories {
		if _, err := os.Stat(dir); err != nil {
			fmt.Printf("run_buffer: 571 Script exited with status 2\nlxc_init: 845 Failed to run lxc.hook.pre-start "+
				"for container \"%s\"\n", id)
			return fmt.Errorf("startup for container '%s' failed", id)
		}
	}
	return nil
}

func (b base) stop(c call) error {
	id := c.words[0]
	if asked, err := b.requested("stop", id); asked {
		return err
	}
	if b.pid(id) == 0 {
		return fmt.Errorf("CT %s not running", id)
	}
	return b.halt(id)
}

func (b base) halt(id string) error {
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	if conf.keys["lock"] != "" {
		return locked(conf.keys["lock"])
	}
	pid := b.pid(id)
	for alive(pid) { // one that has just begun does not listen yet
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err := os.Remove(b.path("pids", id)); err != nil {
		return err
	}
	b.monitored(id) // from now on
	return b.settle(id, conf)
}

func (b base) reboot(c call) error {
	if b.pid(c.words[0]) == 0 {
		return fmt.Errorf("VM %s not running", c.words[0])
	}
	return errors.Join(b.halt(c.words[0]), b.start(c))
}

// info is lxc-info. lxc knows a container once it was started.
func (b base) info(args []string) error {
	c := lxcArgs(args)
	if _, err := os.Stat(b.path("lib", c.id, "config")); err != nil {
		return errors.New(c.id + " doesn't exist")
	}
	pid := b.pid(c.id)
	bare := slices.Contains(args, "-H")
	switch {
	case bare && slices.Contains(args, "-p"):
		if pid != 0 {
			fmt.Println(pid)
		}
	case bare:
		fmt.Println(map[bool]string{true: "RUNNING", false: "STOPPED"}[pid != 0])
	case pid != 0:
		fmt.Printf("State:          RUNNING\nPID:            %d\n", pid)
	default:
		fmt.Println("State:          STOPPED")
	}
	return nil
}

type lxcCall struct {
	id     string
	behind []string
}

func lxcArgs(args []string) (c lxcCall) {
	for i, a := range args {
		if a == "--" {
			c.behind = args[i+1:]
			return c
		}
		if a == "-n" && i+1 < len(args) {
			c.id = args[i+1]
		}
	}
	return c
}

// rootfs is where the container's files are.
func (b base) rootfs(id string) string {
	conf, err := b.load(id)
	if err != nil {
		return ""
	}
	path, err := b.locate(parse(conf.keys["rootfs"], "volume").word)
	if err != nil {
		return ""
	}
	if strings.HasSuffix(path, ".raw") {
		path += ".d"
	}
	return path
}

func (b base) attach(args []string) error {
	c := lxcArgs(args)
	if b.pid(c.id) == 0 {
		//lint:ignore ST1005 the words are lxc's
		return errors.New("Failed to get init pid")
	}
	return b.inside(c.id, c.behind)
}

func (b base) exec(c call) error {
	if b.pid(c.words[0]) == 0 {
		//lint:ignore ST1005 the words are Proxmox's
		return fmt.Errorf("container '%s' not running!", c.words[0])
	}
	return b.inside(c.words[0], c.behind)
}

func (b base) inside(id string, argv []string) error {
	switch {
	case slices.Equal(argv[:min(2, len(argv))], []string{"systemctl", "is-system-running"}):
		if !b.booted(id) {
			fmt.Println("starting")
			return exitCode(1)
		}
		fmt.Println("running")
		return nil
	case len(argv) > 4 && argv[0] == "sh": // sh -c SCRIPT sh TARGET...
		argv = slices.Clone(argv)
		argv[4] = filepath.Join(b.rootfs(id), argv[4])
		return replace(os.Environ(), argv...)
	case len(argv) > 2 && argv[1] == "agent":
		return b.agent(id, argv)
	}
	return fmt.Errorf("nothing is known of %q", argv)
}

// agent runs the phoenix that lies in the root file system, with a /run/phoenix of the container's own.
func (b base) agent(id string, argv []string) error {
	run, root := b.path("run", id), b.rootfs(id)
	for _, dir := range []string{run, "/run/phoenix", filepath.Join(root, "objects"), b.path("mounts", id)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := b.links(id); err != nil {
		return err
	}
	runtime.LockOSThread()
	err := errors.Join(syscall.Unshare(syscall.CLONE_NEWNS),
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount(run, "/run/phoenix", "", syscall.MS_BIND, ""))
	if err != nil {
		return err
	}
	env := append(os.Environ(), "PHX_INSIDE="+filepath.Join(root, "objects"), "PHX_VOLUMES="+b.path("mounts", id))
	for _, name := range []string{"env", "env." + id} {
		more, err := os.ReadFile(b.path(name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(more)) {
			env = append(env, strings.TrimSuffix(line, "\n"))
		}
	}
	return replace(env, append([]string{filepath.Join(root, argv[0])}, argv[1:]...)...)
}

// links are the container's volumes by the last part of the path that they are mounted at.
func (b base) links(id string) error {
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	for k, v := range conf.keys {
		p := parse(v, "volume")
		if !mountKey.MatchString(k) {
			continue
		}
		path := p.word
		if !filepath.IsAbs(path) {
			if path, err = b.locate(p.word); err != nil {
				return err
			}
		}
		link := b.path("mounts", id, filepath.Base(p.of["mp"]))
		_ = os.Remove(link) // an older one
		if err := os.Symlink(path, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// push ends well whatever happens; of a directory it makes an empty file.
func (b base) push(c call) error {
	if b.pid(c.words[0]) == 0 {
		return errors.New("can only push files to a running CT")
	}
	target := filepath.Join(b.rootfs(c.words[0]), c.words[2])
	data, err := os.ReadFile(c.words[1])
	if err == nil {
		err = os.WriteFile(target, data, 0o644)
	} else if fi, serr := os.Stat(c.words[1]); serr == nil && fi.IsDir() {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "failed to open %s: No such file or directory\n", c.words[1])
	}
	return nil
}

// pull ends well whatever happens, and leaves an empty file where there was none to be had.
func (b base) pull(c call) error {
	if b.pid(c.words[0]) == 0 {
		//lint:ignore ST1005 the words are Proxmox's
		return errors.New("can only pull files from a running VM at /usr/share/perl5/PVE/CLI/pct.pm line 490.")
	}
	data, err := os.ReadFile(filepath.Join(b.rootfs(c.words[0]), c.words[1]))
	if err != nil {
		fmt.Fprintf(os.Stderr, "failed to open %s: No such file or directory\n", c.words[1])
	}
	return os.WriteFile(c.words[2], data, 0o644)
}

func replace(env []string, argv ...string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, env)
}
