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
type Running struct{}

// RunningStatus is what was seen of a container that is defined.
type RunningStatus struct {
	State      string `json:"state"`         // running or stopped
	PID        int    `json:"pid,omitempty"` // of its init
	Definition string `json:"definition"`    // digest of the configuration it was started with
	Wanted     string `json:"wanted"`        // digest of its present configuration
	Booted     bool   `json:"booted"`        // its systemd has started everything
}

const (
	running = "running"
	stopped = "stopped"

	stopLimit = 30 * time.Second // for a clean shutdown; then the container is killed
)

// Decode implements provider.Driver.
func (Running) Decode(raw json.RawMessage) (spec.Running, diag.List) {
	s, diags := provider.Decode[spec.Running](raw)
	if !diags.HasErrors() {
		checkPlace(&diags, s.ID, s.Path)
	}
	return s, diags
}

// Observe implements provider.Driver; nil: the container is not defined. It runs lxc-info once. systemd is asked only while the
// container is younger than a boot may take.
func (Running) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Running) (*RunningStatus, error) {
	config, defined, err := readConfig(h, s.Path, s.ID)
	if !defined || err != nil {
		return nil, err
	}
	st := &RunningStatus{State: stopped, Wanted: definition(config)}
	if st.PID, err = inside(s.Path, s.ID).InitPID(ctx, h); err != nil || st.PID == 0 {
		return st, err
	}
	st.State = running
	if st.Definition, err = startedWith(h, st.PID); err != nil {
		return nil, err
	}
	st.Booted, err = inside(s.Path, s.ID).Booted(ctx, h, st.PID)
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
	if have.State == running && have.Definition != have.Wanted {
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
	return inside(s.Path, s.ID).WaitBooted(ctx, h, func(ctx context.Context) error { return stillRuns(ctx, h, s) })
}

// canonical refuses an lxcpath that goes over a symbolic link: lxc names its sockets after the path as it is written, so that the
// same container would look stopped by its other name, and be started twice on one root file system.
func canonical(ctx context.Context, h host.Host, path string) error {
	res, err := h.Run(ctx, host.Command{Argv: []string{"realpath", "--", path}})
	if err != nil {
		return err
	}
	if real := strings.TrimSuffix(string(res.Stdout), "\n"); real != path {
		return provider.PermanentHint(fmt.Errorf("%s is %s by another name", path, real), "give the folder by its own name")
	}
	return nil
}

func start(ctx context.Context, h host.Host, s spec.Running) error {
	if err := canonical(ctx, h, s.Path); err != nil {
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

// stillRuns fails once a container that was started has ended.
func stillRuns(ctx context.Context, h host.Host, s spec.Running) error {
	if pid, err := inside(s.Path, s.ID).InitPID(ctx, h); err != nil || pid == 0 {
		return errors.Join(err, fmt.Errorf("container %s ended while it was booting%s", s.ID, logged(h, filepath.Join(home(s.Path, s.ID), "lxc.log"))))
	}
	return nil
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
