package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Inside is a container as lxc's own tools find it. They work below Proxmox too, and cost a hundredth of its pct.
type Inside struct {
	Path string // lxcpath; empty: lxc's own, which is Proxmox's
	ID   string
	Boot time.Duration // how long a boot may take; 0: BootLimit
}

func (i Inside) bootLimit() time.Duration { return cmp.Or(i.Boot, BootLimit) }

const (
	// BootLimit is how long a container may usually take until its systemd has started everything.
	BootLimit = 60 * time.Second
	// What runs inside may say nothing for ever, or more than anybody wants to hear.
	insideLimit  = 2 * time.Minute
	insideOutput = 16 << 10 // bytes
	lookLimit    = 10 * time.Second
	bootPoll     = 10 * time.Millisecond
	startTick    = 100 // a second has that many in /proc/PID/stat (proc(5), USER_HZ)
)

// Tool builds an lxc command line.
func (i Inside) Tool(name string, args ...string) []string {
	argv := []string{name}
	if i.Path != "" {
		argv = append(argv, "-P", i.Path)
	}
	return append(append(argv, "-n", i.ID), args...)
}

// Enter builds the command line that runs argv inside; nothing of the hypervisor's environment goes in.
func (i Inside) Enter(argv ...string) []string {
	return append(i.Tool("lxc-attach", "--clear-env", "--"), argv...)
}

// Attach runs argv inside.
func (i Inside) Attach(ctx context.Context, h host.Host, c host.Command, argv ...string) (host.Result, error) {
	c.Argv = i.Enter(argv...)
	c.Output, c.Limit = cmp.Or(c.Output, insideOutput), cmp.Or(c.Limit, insideLimit)
	return h.Run(ctx, c)
}

// NotRunning tells from what lxc-attach said that there is no such container or that it does not run.
func NotRunning(r host.Result) bool {
	said := string(r.Stderr)
	return strings.Contains(said, "Failed to get init pid") || strings.Contains(said, "Failed to get attach context") ||
		strings.Contains(said, "is not running") ||
		strings.Contains(said, "No such file or directory - Failed to load config")
}

// InitPID is the process id of the container's init; 0: the container does not run.
func (i Inside) InitPID(ctx context.Context, h host.Host) (int, error) {
	argv := i.Tool("lxc-info", "--state", "--pid")
	res, err := h.Run(ctx, host.Command{Argv: argv})
	switch {
	case err != nil && i.Path == "" && strings.Contains(string(res.Stdout)+string(res.Stderr), "doesn't exist"):
		return 0, nil // lxc hears of Proxmox's containers when they are started first
	case err != nil:
		return 0, err
	}
	pid, err := parseInfo(string(res.Stdout))
	if err != nil {
		return 0, host.Misread(argv, res, err)
	}
	return pid, nil
}

// parseInfo reads `lxc-info --state --pid`: "State: RUNNING" and, where it runs, "PID: 12" of its init. 0: it does not
// run.
func parseInfo(out string) (pid int, err error) {
	f := make(map[string]string)
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(line, ":")
		f[key] = strings.TrimSpace(value)
	}
	switch {
	case f["State"] == "":
		return 0, errors.New("no state")
	case f["PID"] == "":
		return 0, nil
	}
	return strconv.Atoi(f["PID"])
}

// Booted tells whether the systemd of a running container has started everything. It is asked only while the container
// is younger than a boot may take.
func (i Inside) Booted(ctx context.Context, h host.Host, pid int) (bool, error) {
	if age, err := processAge(h, pid); err != nil || age >= i.bootLimit() {
		return true, nil
	}
	up, err := i.askSystemd(ctx, h, false)
	if IsPermanent(err) || ctx.Err() != nil {
		return up, err
	}
	return up, nil
}

func processAge(h host.Host, pid int) (time.Duration, error) {
	stat, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	uptime, err := h.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	return age(string(stat), string(uptime))
}

// age reads field 22 of /proc/PID/stat, counted behind the name, which may hold anything (proc(5)).
func age(stat, uptime string) (time.Duration, error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	up := strings.Fields(uptime)
	if len(f) < 20 || len(up) == 0 {
		return 0, fmt.Errorf("no start time in %q", stat)
	}
	ticks, err1 := strconv.ParseFloat(f[19], 64)
	seconds, err2 := strconv.ParseFloat(up[0], 64)
	return time.Duration((seconds - ticks/startTick) * float64(time.Second)), errors.Join(err1, err2)
}

// askSystemd asks systemd inside. With wait it returns when the boot has come to an end, if systemd can be asked at all
// by now. A degraded system has booted; what failed is for the health check to say. The error tells why it has not;
// only a permanent one is more than that it takes its time.
func (i Inside) askSystemd(ctx context.Context, h host.Host, wait bool) (bool, error) {
	argv := []string{"systemctl", "is-system-running"}
	if wait {
		argv = append(argv, "--wait")
	}
	limit := min(i.bootLimit(), lookLimit)
	if wait {
		limit = i.bootLimit()
	}
	res, err := i.Attach(ctx, h, host.Command{Limit: limit}, argv...)
	switch state := strings.TrimSpace(string(res.Stdout)); {
	case state == "running" || state == "degraded":
		return true, nil
	case res.Code == 127:
		return false, Permanent(fmt.Errorf("container %s has no systemd: %w", i.ID, err))
	case err == nil:
		return false, host.Misread(i.Enter(argv...), res, errors.New("no state of a system"))
	}
	return false, err
}

// WaitBooted returns when systemd has started everything. alive fails once the container has ended. The boot goes on by
// itself: where the work is to end, it is not waited for.
func (i Inside) WaitBooted(ctx context.Context, h host.Host, alive func(context.Context) error) error {
	whole, end := Stoppable(ctx)
	defer end()
	ctx, cancel := context.WithTimeout(whole, i.bootLimit())
	defer cancel()
	tick := time.NewTicker(bootPoll)
	defer tick.Stop()
	for {
		up, why := i.askSystemd(ctx, h, true)
		if up || IsPermanent(why) {
			return why
		}
		if ctx.Err() == nil {
			if err := alive(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-whole.Done():
			return fmt.Errorf("container %s runs, and its boot is not waited for: %w", i.ID, context.Cause(whole))
		case <-ctx.Done():
			return fmt.Errorf("container %s runs, and its systemd has not come up within %s: %w", i.ID, i.bootLimit(),
				why)
		case <-tick.C:
		}
	}
}
