package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
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
type Running struct {
	Boot time.Duration // how long a boot may take; 0: 60 s
}

func (r Running) inside(s spec.Running) provider.Inside {
	return provider.Inside{Path: s.Path, ID: s.ID, Boot: r.Boot}
}

// RunningStatus is what was seen of a container that is defined.
type RunningStatus struct {
	State      string `json:"state"`         // running or stopped
	PID        int    `json:"pid,omitempty"` // of its init
	Definition string `json:"definition"`    // digest of the configuration it was started with
	Wanted     string `json:"wanted"`        // digest of its present configuration
	Booted     bool   `json:"booted"`        // its systemd has started everything
	// Drift is in what it runs otherwise than its configuration says, whatever it was started with.
	Drift []plan.Field `json:"drift,omitempty"`
}

const (
	running = "running"
	stopped = "stopped"

	settleLimit = 10 * time.Second // of a boot that is to be stopped
	stopLimit   = 30 * time.Second // for a clean shutdown; then the container is killed
)

// Decode implements provider.Driver.
func (Running) Decode(raw json.RawMessage) (spec.Running, diag.List) {
	s, diags := provider.Decode[spec.Running](raw)
	if !diags.HasErrors() {
		checkPlace(&diags, s.ID, s.Path)
	}
	return s, diags
}

// Observe implements provider.Driver; nil: the container is not defined. It runs lxc-info once. systemd is asked only
// while the container is younger than a boot may take.
func (r Running) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Running) (*RunningStatus, error) {
	config, defined, err := readConfig(h, s.Path, s.ID)
	if !defined || err != nil {
		return nil, err
	}
	st := &RunningStatus{State: stopped, Wanted: definition(config)}
	if st.PID, err = r.inside(s).InitPID(ctx, h); err != nil || st.PID == 0 {
		return st, err
	}
	st.State = running
	st.Drift = drift(h, config, st.PID)
	if st.Definition, err = startedWith(h, st.PID); err != nil {
		return nil, err
	}
	if taken := provider.TakenOver(h, home(s.Path, s.ID), st.PID); taken != "" {
		st.Definition = taken
	}
	st.Booted, err = r.inside(s).Booted(ctx, h, st.PID)
	return st, err
}

// startedWith reads what render put into the init's environment. A process that is gone was started with nothing.
func startedWith(h host.Host, pid int) (string, error) {
	environ, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	for entry := range strings.SplitSeq(string(environ), "\x00") {
		if digest, ok := strings.CutPrefix(entry, definitionVar+"="); ok {
			return digest, err
		}
	}
	return "", err
}

// Diff implements provider.Driver.
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
	d.Compare("definition", have.Definition, have.Wanted)
	if !d.Empty() {
		d.Reason = "it runs with an older configuration: restart"
	}
	for _, f := range have.Drift {
		d.Compare(f.Path, f.Have, f.Want)
		switch {
		case !isLimit(f.Path):
			d.Reason = "it does not run as its configuration says: restart"
		case d.Reason == "":
			d.Reason = "it has other limits than its configuration says"
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
		return fmt.Errorf("container %s is not defined in %s", s.ID, s.Path)
	}
	if have.State == running && have.Definition == have.Wanted && len(have.Drift) > 0 {
		done, err := setLimits(ctx, h, have)
		if err != nil {
			return err
		}
		if done {
			have.Drift = nil
		}
	}
	if have.State == running && (have.Definition != have.Wanted || len(have.Drift) > 0) {
		if err := startable(ctx, h, s); err != nil {
			return err
		}
		if err := r.settle(ctx, h, s, have); err != nil {
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
	}
	return r.waitBooted(ctx, h, s)
}

// settle lets a boot come to its end, for an init that has only begun would not hear that it should stop.
func (r Running) settle(ctx context.Context, h host.Host, s spec.Running, have *RunningStatus) error {
	if have.Booted {
		return nil
	}
	inTime, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	_ = r.waitBooted(inTime, h, s) // whatever keeps it, it is stopped
	if err := provider.Stopped(ctx); err != nil {
		return fmt.Errorf("container %s was left running: %w", s.ID, err)
	}
	return ctx.Err()
}

// canonical refuses an lxcpath that goes over a symbolic link: lxc names its sockets after the path as it is written,
// so that the same container would look stopped by its other name, and be started twice on one root file system.
func canonical(ctx context.Context, h host.Host, path string) error {
	argv := []string{"realpath", "--", path}
	res, err := h.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return err
	}
	real := strings.TrimSuffix(string(res.Stdout), "\n")
	if !filepath.IsAbs(real) {
		return host.Misread(argv, res, errors.New("no path from the top"))
	}
	if real != path {
		return provider.PermanentHint(fmt.Errorf("%s is %s by another name", path, real),
			"give the directory by its own name")
	}
	return nil
}

func start(ctx context.Context, h host.Host, s spec.Running) error {
	if err := startable(ctx, h, s); err != nil {
		return err
	}
	log := filepath.Join(home(s.Path, s.ID), "lxc.log")
	if err := h.Remove(log); err != nil {
		return err
	}
	argv := inside(s.Path, s.ID).Tool("lxc-start", "--daemon", "--logfile="+log, "--logpriority=ERROR")
	_, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true})
	if err == nil {
		return nil
	}
	return fmt.Errorf("container %s does not start: %w%s", s.ID, err, logged(h, log))
}

// logged gives the errors that lxc logged, without its times and source lines.
func logged(h host.Host, log string) string {
	raw, err := h.ReadFile(log)
	if err != nil {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(string(raw)) {
		if _, what, ok := strings.Cut(line, " ERROR "); ok {
			b.WriteString("\nlxc: " + strings.Join(strings.Fields(what), " "))
		}
	}
	return b.String()
}

func (r Running) waitBooted(ctx context.Context, h host.Host, s spec.Running) error {
	err := r.inside(s).WaitBooted(ctx, h, func(ctx context.Context) error { return stillRuns(ctx, h, s) })
	if err != nil {
		return err
	}
	return waitDetected(ctx, h, s)
}

// stillRuns fails once a container that was started has ended.
func stillRuns(ctx context.Context, h host.Host, s spec.Running) error {
	pid, err := inside(s.Path, s.ID).InitPID(ctx, h)
	if err == nil && pid == 0 {
		err = fmt.Errorf("container %s ended while it was booting%s", s.ID,
			logged(h, filepath.Join(home(s.Path, s.ID), "lxc.log")))
	}
	return err
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
	argv := inside(s.Path, s.ID).Tool("lxc-stop", "--timeout", strconv.Itoa(int(stopLimit.Seconds())))
	res, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true})
	if err != nil && strings.Contains(string(res.Stderr), "is not running") {
		return nil
	}
	return err
}

// Delete implements provider.Deleter.
func (r Running) Delete(ctx context.Context, h host.Host, a object.Address, s spec.Running) error {
	return r.Stop(ctx, h, a, s)
}
