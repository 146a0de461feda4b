// Command fakes stands in for the tools of a Proxmox host: pct, pvesm, pvesh, pve-firewall, zfs, lxc-info and
// lxc-attach, by the name it is called by. They behave as the real ones were observed to, with what they do wrong: what
// ends well though it failed, what is not safe to repeat, who tells an error on which stream. A running container is a
// process that only waits, in namespaces of its own. All state is in the directory above the one that the fakes lie in,
// or in $PHX_PROXMOX:
//
//	pve/              what /etc/pve is on a real host; pve/local is a directory here, which cannot be written without quorum
//	locks/            what /run/lock is
//	lib/ID/config     what lxc was given at the start of a container; /var/lib/lxc on a real host
//	lib/ID/booted     the init that has its mounts and its address
//	roots/ID          where an init has its root, seen by itself only
//	pids/ID           the process that is a container's init
//	groups/           the control groups of containers, where a test has them
//	calls             each call, one a line
//	faults/VERB       what the next call of pct VERB is to do instead: a JSON fault
//	no-hotplug        the key that cannot be plugged into a container that runs: then nothing of the call takes effect
//	call-cost       how long each call takes before it does anything: 500ms
//	times           with it, when each call began and ended, one a line
//	post-stop       how long a container's monitor takes after the end of its init: 700ms
//	strikes, strike-at  each change that a call makes, one a line, and the one before which it dies with who made it
//	env, env.ID       lines NAME=VALUE for the phoenix inside
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	name := filepath.Base(os.Args[0])
	b := found()
	b.note(name, os.Args[1:])
	tools := map[string]func([]string) error{
		"pct": b.pct, "pvesm": b.pvesm, "pvesh": b.pvesh, "lxc-info": b.info, "lxc-attach": b.attach, "init": b.init,
		"zfs":          b.zfs,
		"pve-firewall": b.firewall,
	}
	err := fmt.Errorf("no fake of %s", name)
	if tool := tools[name]; tool != nil {
		begun := time.Now()
		b.wait(name)
		if err = tool(os.Args[1:]); steps > 0 && err == nil {
			b.strike() // done, and nobody hears of it
		}
		b.took(name, begun)
	}
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(leftover(err.Error()))
	}
}

// wait is how long Perl takes to read its modules, where a test wants that.
func (b base) wait(name string) {
	raw, err := os.ReadFile(b.path("call-cost"))
	cost, perr := time.ParseDuration(strings.TrimSpace(string(raw)))
	if err == nil && perr == nil && strings.HasPrefix(name, "p") {
		time.Sleep(cost)
	}
}

// took writes down when a call of Proxmox's began and ended, where a test wants to know.
func (b base) took(name string, begun time.Time) {
	if !strings.HasPrefix(name, "p") {
		return
	}
	f, err := os.OpenFile(b.path("times"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%d %d %s %s\n", begun.UnixNano(), time.Now().UnixNano(), name,
		strings.ReplaceAll(strings.Join(os.Args[1:], " "), "\n", " "))
}

// exitCode ends with a code; what there was to say is said.
type exitCode int

func (e exitCode) Error() string { return "exit " + strconv.Itoa(int(e)) }

// leftover is the code of a failed call: whatever errno was last, so that it means nothing.
func leftover(text string) int {
	codes := []int{1, 2, 4, 25, 39, 255}
	return codes[len(text)%len(codes)]
}

// base is the directory with all state.
type base string

func found() base {
	if dir := os.Getenv("PHX_PROXMOX"); dir != "" {
		return base(dir)
	}
	self, err := exec.LookPath(os.Args[0])
	if err != nil {
		self = os.Args[0]
	}
	if abs, err := filepath.Abs(self); err == nil {
		self = abs
	}
	return base(filepath.Dir(filepath.Dir(self)))
}

func (b base) path(parts ...string) string {
	return filepath.Join(append([]string{string(b)}, parts...)...)
}

func (b base) node() string {
	target, err := os.Readlink(b.path("pve", "lxc"))
	if err != nil {
		return "pve"
	}
	return filepath.Base(filepath.Dir(target))
}

func (b base) note(name string, args []string) {
	f, err := os.OpenFile(b.path("calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s %s\n", name, strings.ReplaceAll(strings.Join(args, " "), "\n", `\n`))
}

// fault is what a call does instead of its work, or after it.
type fault struct {
	Code   int    `json:"code"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Apply  bool   `json:"apply"` // the work is done before
	Hang   bool   `json:"hang"`  // until SIGTERM
	Stays  bool   `json:"stays"` // for every call, not only the next
}

// faulty is the fault that waits for a verb.
func (b base) faulty(verb string) *fault {
	path := b.path("faults", verb)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var f fault
	if err := json.Unmarshal(raw, &f); err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		os.Exit(99)
	}
	if !f.Stays {
		os.Remove(path)
	}
	return &f
}

func (f *fault) happen() error {
	fmt.Print(f.Stdout)
	fmt.Fprint(os.Stderr, f.Stderr)
	if f.Hang {
		time.Sleep(time.Hour)
	}
	if f.Code != 0 {
		return exitCode(f.Code)
	}
	return nil
}

// quorate as PVE::Cluster::check_cfs_quorum looks.
func (b base) quorate() bool {
	fi, err := os.Lstat(b.path("pve", "local"))
	return err == nil && fi.Mode().Perm()&0o200 != 0
}

func (b base) denied(id string) error {
	return fmt.Errorf("unable to open file '/etc/pve/nodes/%s/lxc/%s.conf.tmp.%d' - Permission denied", b.node(), id,
		os.Getpid())
}
