package pve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Running keeps containers running with their present definition. It implements provider.Driver, provider.Stopper and
// provider.Deleter.
type Running struct{}

// RunningStatus is what was seen of a container that is defined.
type RunningStatus struct {
	State  string   `json:"state"`         // running or stopped
	PID    int      `json:"pid,omitempty"` // of its init
	Waits  []string `json:"waits"`         // what it will have after a restart only
	Booted bool     `json:"booted"`        // its systemd has started everything
	// Drift is in what it runs otherwise than its configuration says, though nothing waits for a restart.
	Drift []plan.Field `json:"drift,omitempty"`
	// Limits are those of its control group that differ; they are set while it runs.
	Limits []plan.Field `json:"limits,omitempty"`
	// Missing are directories of the hypervisor that it cannot start without, and that are not there.
	Missing []string `json:"missing,omitempty"`
}

const (
	running = "running"
	stopped = "stopped"

	stopLimit  = 30 * time.Second // for a clean shutdown; then the container is killed
	stateLimit = 60 * time.Second // with high availability it is another process that starts and stops it, later
	statePoll  = 50 * time.Millisecond
)

// Decode implements provider.Driver.
func (Running) Decode(raw json.RawMessage) (spec.Running, diag.List) {
	s, diags := provider.Decode[spec.Running](raw)
	if diags.HasErrors() {
		return s, diags
	}
	checkID(&diags, s.ID)
	if s.Proxmox == nil {
		diags.Errorf("container %s: nothing is said about it for Proxmox", s.ID)
	} else {
		checkPlace(&diags, *s.Proxmox)
	}
	return s, diags
}

// Observe implements provider.Driver; nil: the container is not defined. It runs lxc-info once.
func (Running) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Running) (*RunningStatus, error) {
	c, err := read(h, *s.Proxmox, s.ID)
	if c == nil || err != nil || c.half() {
		return nil, err
	}
	st := &RunningStatus{State: stopped}
	if st.PID, err = inside(s.ID).InitPID(ctx, h); err != nil || st.PID == 0 {
		st.Missing = missingSources(h, c)
		return st, err
	}
	st.State = running
	if st.Waits, err = waits(h, s, c, st.PID); err != nil {
		return nil, err
	}
	limited(h, c, st)
	st.Drift = tooMuch(h, c, st.PID)
	if st.Booted, err = inside(s.ID).Booted(ctx, h, st.PID); err == nil && st.Booted {
		st.Drift = append(st.Drift, drift(h, c, st.PID)...)
	}
	return st, err
}

// restartKeys are the keys of phoenix's that change with a restart only. What else waits is somebody's, and no reason
// for one.
var restartKeys = regexp.MustCompile(
	`^(features|nameserver|searchdomain|mp\d+|dev\d+|net0|memory|swap|cores|hostname|rootfs)$`)

// waits names what the running container does not have yet, or has too much: by Proxmox's own list, and by the raw
// options that it was started with.
func waits(h host.Host, s spec.Running, c *conf, pid int) ([]string, error) {
	var out []string
	for key, value := range c.waiting() {
		if restartKeys.MatchString(key) && c.current().get(key) != value {
			out = append(out, key)
		}
	}
	started, known, err := readStarted(h, *s.Proxmox, s.ID, pid)
	if err != nil {
		return nil, err
	}
	if known {
		out = append(out, started.differing(c.current().options())...)
	}
	slices.Sort(out)
	return out, nil
}

// Diff implements provider.Driver. A restart interrupts what the container does, and asks for consent. One that brings
// a volume back does not, so that watch makes it: keys would be written beside the volume, and Proxmox mounts it or
// does not start. An address or a route may be the guest's own doing, which would outlive any number of restarts. Nor
// does it go without consent where a change waits, which it would bring in.
func (Running) Diff(_ spec.Running, have *RunningStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the container does not exist"}
	}
	var d plan.Delta
	d.Compare("state", have.State, running)
	if have.State != running {
		d.Reason = "the container does not run"
		return d
	}
	d.Compare("waits", strings.Join(have.Waits, ", "), "")
	if !d.Empty() {
		d.Reason, d.Interrupts = "needs restart: "+strings.Join(have.Waits, ", "), true
	}
	for _, f := range slices.Concat(have.Limits, have.Drift) {
		d.Compare(f.Path, f.Have, f.Want)
	}
	if len(have.Drift) > 0 && len(have.Waits) == 0 {
		d.Reason = "it does not run as its configuration says: restart"
		has := func(field string) bool {
			return slices.ContainsFunc(have.Drift, func(f plan.Field) bool { return strings.HasPrefix(f.Path, field) })
		}
		if d.Interrupts = !has(mountField) || has(extraField); has(extraField) {
			d.Reason = "needs restart: it has more mounted than its configuration says"
		}
	}
	d.Compare("booted", strconv.FormatBool(have.Booted), "true")
	return d
}

// Apply implements provider.Driver: it starts, or stops and starts, and waits until systemd has started everything.
func (r Running) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Running, _ plan.Delta) error {
	have, err := r.Observe(ctx, h, a, s)
	if err != nil {
		return err
	}
	if have == nil {
		return fmt.Errorf("container %s does not exist", s.ID)
	}
	if err := setLimits(ctx, h, have); err != nil {
		return err
	}
	if have.State == running && len(have.Waits)+len(have.Drift) > 0 {
		if err := restartable(h, s); err != nil {
			return err
		}
		if err := stop(ctx, h, s); err != nil {
			return err
		}
		have.State = stopped
	}
	if have.State != running {
		if err := start(ctx, h, s); err != nil {
			return err
		}
		if err := saveStarted(ctx, h, *s.Proxmox, s.ID); err != nil {
			return err
		}
	}
	return inside(s.ID).WaitBooted(ctx, h, func(ctx context.Context) error {
		if pid, err := inside(s.ID).InitPID(ctx, h); err != nil || pid == 0 {
			return errors.Join(err, fmt.Errorf("container %s ended while it was booting", s.ID))
		}
		return nil
	})
}

var runsNot = regexp.MustCompile(`(CT|VM) \d+ not running`)

func start(ctx context.Context, h host.Host, s spec.Running) error {
	if err := provider.ProxmoxWritable(h, *s.Proxmox); err != nil {
		return err
	}
	c, err := read(h, *s.Proxmox, s.ID)
	if err != nil || c == nil {
		return err
	}
	if c, err = release(ctx, h, *s.Proxmox, s.ID, c); err != nil {
		return err
	}
	if err := startable(h, s.ID, c); err != nil {
		return err
	}
	if res, err := provider.ProxmoxStart(ctx, h, s.ID); err != nil {
		return fmt.Errorf("container %s does not start: %w", s.ID, judged(s.ID, res, err))
	}
	return waitState(ctx, h, s, true)
}

// restartable is startable for a container that is to be stopped first.
func restartable(h host.Host, s spec.Running) error {
	c, err := read(h, *s.Proxmox, s.ID)
	if err != nil || c == nil {
		return err
	}
	return startable(h, s.ID, c)
}

// startable fails where a directory of the hypervisor that is mounted cannot be: pct start would only speak of a script,
// and a restart would find out when the container is stopped.
func startable(h host.Host, id string, c *conf) error {
	for _, m := range boundMounts(c) {
		if err := provider.Mountable(h, id, m); err != nil {
			return err
		}
	}
	return nil
}

// missingSources are the directories of the hypervisor that a container mounts, and that are not there.
func missingSources(h host.Host, c *conf) (out []string) {
	for _, m := range boundMounts(c) {
		if _, err := h.Lstat(m.Source); errors.Is(err, fs.ErrNotExist) {
			out = append(out, m.Source)
		}
	}
	return out
}

// boundMounts are the directories of the hypervisor that a container mounts.
func boundMounts(c *conf) (mounts []spec.Mount) {
	for _, key := range c.current().keys() {
		if p := parseProperty(c.current().get(key), "volume"); mountKey.MatchString(key) &&
			strings.HasPrefix(p.word, "/") {
			mounts = append(mounts, spec.Mount{Source: filepath.Clean(p.word), Target: p.of["mp"]})
		}
	}
	for _, o := range c.current().options() {
		if m, bind := provider.ParseMountEntry(o.value); o.key == "lxc.mount.entry" && bind {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// waitState returns once the container runs, or does not.
func waitState(ctx context.Context, h host.Host, s spec.Running, up bool) error {
	id, limit := s.ID, stateLimit
	available := highlyAvailable(h, *s.Proxmox, id)
	if available {
		limit = haLimit
	}
	stoppable, end := provider.Stoppable(ctx)
	defer end()
	ctx, cancel := context.WithTimeout(stoppable, limit)
	defer cancel()
	tick := time.NewTicker(statePoll)
	defer tick.Stop()
	for {
		pid, err := inside(id).InitPID(ctx, h)
		if err == nil && (pid != 0) == up {
			return nil
		}
		select {
		case <-ctx.Done():
			if stoppable.Err() != nil {
				return fmt.Errorf("container %s: whether it runs is not waited for: %w", id, context.Cause(stoppable))
			}
			err = errors.Join(err, fmt.Errorf("container %s: running should be %t, and is not after %s", id, up, limit))
			if available {
				return provider.WithHint(err, "it is a resource of Proxmox's high availability, which was asked for "+
					"it: ha-manager status")
			}
			return err
		case <-tick.C:
		}
	}
}

// Stop implements provider.Stopper: a clean shutdown, a kill where that takes too long.
func (r Running) Stop(ctx context.Context, h host.Host, a object.Address, s spec.Running) error {
	have, err := r.Observe(ctx, h, a, s)
	if err != nil || have == nil || have.State != running {
		return err
	}
	return stop(ctx, h, s)
}

func stop(ctx context.Context, h host.Host, s spec.Running) error {
	c, err := read(h, *s.Proxmox, s.ID)
	if err != nil || c == nil {
		return err
	}
	if _, err := release(ctx, h, *s.Proxmox, s.ID, c); err != nil {
		return err
	}
	res, err := pct(ctx, h, s.ID, callLimit, "shutdown", s.ID, "--timeout", strconv.Itoa(int(stopLimit.Seconds())),
		"--forceStop", "1")
	if err != nil && !says(res, runsNot) {
		return err
	}
	return waitState(ctx, h, s, false)
}

// Delete implements provider.Deleter.
func (r Running) Delete(ctx context.Context, h host.Host, a object.Address, s spec.Running) error {
	return r.Stop(ctx, h, a, s)
}
