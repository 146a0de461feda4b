package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// init sees what a container's init would: the volumes at their mount points and nothing else, in a mount namespace of
// its own, and its interface with its address, in a network namespace of its own. Then it only waits.
func (b base) init([]string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	id := os.Getenv("PHX_ID")
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	up, err := os.Create(b.path("lib", id, "booted"))
	if err != nil {
		return err
	}
	if err := errors.Join(b.enter(id), network(parse(conf.keys["net0"], "")), b.assemble(id, conf)); err != nil {
		_ = os.WriteFile(b.path("lib", id, "failed"), []byte(err.Error()), 0o644)
		return err
	}
	if _, err := up.WriteString(strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	<-ended
	return nil
}

// booted tells whether the present init has all that it should.
func (b base) booted(id string) bool {
	raw, err := os.ReadFile(b.path("lib", id, "booted"))
	return err == nil && string(raw) == strconv.Itoa(b.pid(id))
}

func network(net property) error {
	name, lines := net.of["name"], []string{"link set lo up"}
	if name != "" {
		lines = append(lines, "link add "+name+" type veth peer name peer", "link set peer up", "link set "+name+" up")
		if strings.Contains(net.of["ip"], "/") {
			lines = append(lines, "address add "+net.of["ip"]+" dev "+name)
		}
		if net.of["gw"] != "" {
			lines = append(lines, "route add default via "+net.of["gw"]+" dev "+name+" onlink")
		}
	}
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := ip.CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}

// plug brings what takes effect at once into the container that runs: the address of an interface that it has, and new
// volumes, which are only made believe.
func (b base) plug(id string, conf *conf, opts map[string]string) error {
	for k := range opts {
		if refused, err := os.ReadFile(b.path("no-hotplug")); err == nil && strings.TrimSpace(string(refused)) == k {
			fmt.Fprintf(os.Stderr, "400 Parameter verification failed.\n%[1]s: unable to hotplug %[1]s: open_tree() "+
				"failed\npct set <vmid> [OPTIONS]\n", k)
			return exitCode(255)
		}
		p, err := parse(conf.keys[k], "volume"), error(nil)
		_, waits := conf.pending[k]
		switch {
		case waits:
		case k == "net0" && strings.Contains(p.of["ip"], "/"):
			script := `ip address flush dev "$1" && ip address add "$2" dev "$1" && { [ -z "$3" ] || ip route replace default via "$3" dev "$1" onlink; }`
			err = exec.Command("nsenter", "--target", strconv.Itoa(b.pid(id)), "--net", "--", "sh", "-c", script, "sh",
				p.of["name"], p.of["ip"], p.of["gw"]).Run()
		case mountKey.MatchString(k):
			err = plugMount(b.pid(id), p.of["mp"])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func plugMount(pid int, target string) error {
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns", "mnt"))
	if err != nil {
		return err
	}
	defer ns.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		done <- errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS),
			os.MkdirAll(target, 0o755),
			syscall.Mount("volume", target, "tmpfs", 0, "size=1m"))
	}()
	return <-done
}

// assemble makes roots/ID the root, with the volumes in it. One on a device is only made believe.
func (b base) assemble(id string, conf *conf) error {
	root := b.path("roots", id)
	if err := errors.Join(os.MkdirAll(root, 0o755),
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("root", root, "tmpfs", 0, "size=1m")); err != nil {
		return err
	}
	for k, v := range conf.keys {
		p := parse(v, "volume")
		if !mountKey.MatchString(k) {
			continue
		}
		source, target := p.word, filepath.Join(root, p.of["mp"])
		if !filepath.IsAbs(source) {
			source, _ = b.locate(source)
		}
		err := os.MkdirAll(target, 0o755)
		if fi, serr := os.Stat(source); serr == nil && fi.IsDir() {
			err = errors.Join(err, syscall.Mount(source, target, "", syscall.MS_BIND, ""))
		} else {
			err = errors.Join(err, syscall.Mount("volume", target, "tmpfs", 0, "size=1m"))
		}
		if err != nil {
			return err
		}
	}
	for source, target := range conf.binds() {
		if err := bind(source, filepath.Join(root, target)); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chdir(root), syscall.PivotRoot(".", ".")); err != nil {
		return err
	}
	return errors.Join(syscall.Unmount(".", syscall.MNT_DETACH), os.Chdir("/"))
}

func bind(source, target string) error {
	fi, err := os.Stat(source)
	switch {
	case err != nil:
	case fi.IsDir():
		err = os.MkdirAll(target, 0o755)
	default:
		err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, nil, 0o644))
	}
	return errors.Join(err, syscall.Mount(source, target, "", syscall.MS_BIND, ""))
}
