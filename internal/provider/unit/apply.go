package unit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	// systemctl start; longer than systemd's own DefaultTimeoutStartSec (90 s) for one unit
	startLimit = 3 * time.Minute
	firstPause = 5 * time.Millisecond
	longPause  = 100 * time.Millisecond
)

// Apply implements provider.Driver.
func (dr Driver) Apply(ctx context.Context, h host.Host, a object.Address, want spec.Unit, d plan.Delta) error {
	if err := writeFiles(ctx, h, want, d); err != nil {
		return err
	}
	have, err := dr.load(ctx, h, a, want)
	if err != nil {
		return err
	}
	if want.Stopped {
		return stop(ctx, h, want, have)
	}
	if have == nil || have.Load == "not-found" {
		return provider.PermanentHint(fmt.Errorf("there is no unit %s", want.Name),
			"install the package that brings it, or correct its name")
	}
	if have.Load != "loaded" {
		return provider.PermanentHint(fmt.Errorf("systemd cannot load %s: %s", want.Name, have.Load),
			"see: systemd-analyze verify "+want.Name)
	}
	if !enabledEnough(have) {
		if err := systemctl(ctx, h, want.Name, "enable", "--no-reload"); err != nil {
			return err
		}
	}
	return dr.start(ctx, h, a, want, have)
}

// writeFiles makes what is on disk true.
func writeFiles(ctx context.Context, h host.Host, s spec.Unit, d plan.Delta) error {
	fresh := d.Action == plan.Create
	file := s.Content != "" && (fresh || d.Has(fieldFile))
	side := fresh || d.Has(fieldDropIn)
	// no mark tells afterwards that it runs with older files
	if !fresh && (file || side) && carrierOf(s) == byNothing && !s.Lasting {
		if err := takeDown(ctx, h, s, "stop"); err != nil {
			return err
		}
	}
	if file {
		if err := h.WriteFile(filePath(s), []byte(s.Content), 0o644, host.Root); err != nil {
			return err
		}
	}
	if side {
		if err := writeDropIn(h, s); err != nil {
			return err
		}
	}
	if d.Has(fieldMasked) { // in /etc, in /run, or both
		return errors.Join(systemctl(ctx, h, s.Name, "unmask", "--no-reload"),
			systemctl(ctx, h, s.Name, "unmask", "--no-reload", "--runtime"))
	}
	return nil
}

func writeDropIn(h host.Host, s spec.Unit) error {
	text := dropIn(s)
	if text == "" {
		return h.Remove(dropInPath(s))
	}
	if err := h.MkdirAll(filepath.Dir(dropInPath(s)), 0o755, host.Root); err != nil {
		return err
	}
	return h.WriteFile(dropInPath(s), []byte(text), 0o644, host.Root)
}

// load looks again and has systemd read the files where it did not do so by itself. A unit it had never heard of needs
// no daemon-reload.
func (dr Driver) load(ctx context.Context, h host.Host, a object.Address, s spec.Unit) (*Status, error) {
	have, err := dr.Observe(ctx, h, a, s)
	if err != nil || have == nil || !have.Stale && have.Load == "loaded" {
		return have, err
	}
	if _, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "daemon-reload"}, Mutates: true}); err != nil {
		return nil, err
	}
	return dr.Observe(ctx, h, a, s)
}

func stop(ctx context.Context, h host.Host, s spec.Unit, have *Status) error {
	var d plan.Delta
	if have != nil {
		stopped(&d, have)
	}
	if d.Empty() {
		return nil
	}
	return takeDown(ctx, h, s, "disable", "--now", "--no-reload")
}

// takeDown stops, which takes as long as the unit's TimeoutStopSec: nobody else waits for that.
func takeDown(ctx context.Context, h host.Host, s spec.Unit, argv ...string) error {
	return provider.Alone(ctx, turn(s), func(ctx context.Context) error {
		return systemctl(ctx, h, s.Name, argv...)
	})
}

// turn is the key of a unit's starts and stops.
func turn(s spec.Unit) string { return "unit/" + s.Name }

// start brings the unit up. What runs with the wanted mark is left alone, and waited for if it is still starting.
func (dr Driver) start(ctx context.Context, h host.Host, a object.Address, s spec.Unit, have *Status) error {
	verb := "start"
	switch {
	case s.AtBoot && !runs(have):
		return nil
	case runs(have) && have.Mark != mark(s):
		verb = "restart"
	case have.Active == "active":
		// Waiting changes nothing, so that it may be given up.
		if provider.Wait(ctx, func(ctx context.Context) error { return dr.await(ctx, h, a, s) }) == nil {
			return nil
		}
		if err := provider.Stopped(ctx); err != nil {
			return err
		}
		verb = "restart" // it runs as it should and yet takes no connections
	}
	err := provider.Alone(ctx, turn(s), func(ctx context.Context) error {
		return dr.bringUp(ctx, h, a, s, verb)
	})
	if err != nil {
		return withJournal(ctx, h, s.Name, err)
	}
	return nil
}

// bringUp starts or restarts, and waits. A start may take minutes, which nobody else waits for. Another process may
// have done it while this one waited for its turn: what runs as it should is not restarted.
func (dr Driver) bringUp(ctx context.Context, h host.Host, a object.Address, s spec.Unit, verb string) error {
	if have, err := dr.Observe(ctx, h, a, s); err == nil && missing(dr.Diff(s, have)) == "" {
		return nil
	}
	stoppable, end := provider.Stoppable(ctx)
	defer end()
	if err := begin(stoppable, h, s, verb); err != nil {
		if stoppable.Err() != nil {
			return notAwaited(s, stoppable)
		}
		return err
	}
	return dr.await(ctx, h, a, s)
}

// notAwaited is a start that goes on by itself: the end of the work is asked for, and systemd does not need us.
func notAwaited(s spec.Unit, stopped context.Context) error {
	return fmt.Errorf("%s was started, and is not waited for: %w", s.Name, context.Cause(stopped))
}

// begin starts or restarts, once more where systemd refuses because the unit was started too often of late.
func begin(ctx context.Context, h host.Host, s spec.Unit, verb string) error {
	err := systemctl(ctx, h, s.Name, verb)
	if err == nil {
		return nil
	}
	p, showErr := show(ctx, h, s.Name)
	if showErr != nil || p["Result"] != "start-limit-hit" {
		return err
	}
	if err := systemctl(ctx, h, s.Name, "reset-failed"); err != nil {
		return err
	}
	return systemctl(ctx, h, s.Name, "start")
}

// await waits until the unit is active with its mark and accepts connections. It was told to start: where the work is
// to end, that is not waited for.
func (dr Driver) await(ctx context.Context, h host.Host, a object.Address, s spec.Unit) error {
	limit := cmp.Or(dr.UpLimit, time.Minute)
	stoppable, end := provider.Stoppable(ctx)
	defer end()
	ctx, cancel := context.WithTimeout(stoppable, limit)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		have, err := dr.Observe(ctx, h, a, s)
		if err == nil && have == nil {
			return fmt.Errorf("%s is gone", s.Name)
		}
		if err == nil && (have.Active == "failed" || have.Sub == "auto-restart") {
			return fmt.Errorf("%s ended right after its start: %s (%s)", s.Name, have.Active, have.Sub)
		}
		left := missing(dr.Diff(s, have))
		if err == nil && left == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			if stoppable.Err() != nil {
				return notAwaited(s, stoppable)
			}
			return fmt.Errorf("%s is not up after %s: %s", s.Name, limit, left)
		case <-time.After(pause):
		}
	}
}

// missing says what of the running is not as it should be; empty: nothing.
func missing(d plan.Delta) string {
	var out []string
	for _, f := range d.Fields {
		if f.Path == fieldState || f.Path == fieldInputs || f.Path == fieldReady {
			out = append(out, fmt.Sprintf("%s is %q and should be %q", f.Path, f.Have, f.Want))
		}
	}
	return strings.Join(out, ", ")
}

// systemctl changes a unit. It leaves init scripts of packages alone, which systemd ignores where there is a unit: 0.2
// s.
func systemctl(ctx context.Context, h host.Host, name string, argv ...string) error {
	argv = append(append([]string{"systemctl"}, argv...), "--", name)
	_, err := h.Run(ctx, host.Command{Argv: argv, Env: []string{"SYSTEMCTL_SKIP_SYSV=1"}, Mutates: true,
		Limit: startLimit})
	return err
}

// withJournal adds the end of the unit's journal to an error, and who has the port that it wants.
func withJournal(ctx context.Context, h host.Host, name string, cause error) error {
	res, err := h.Run(ctx,
		host.Command{Argv: []string{"journalctl", "--unit", name, "--lines", "20", "--no-pager", "--output",
			"short-iso"}})
	if err != nil {
		return fmt.Errorf("%w\nits journal cannot be read: %v", cause, err)
	}
	if who := host.Takers(h, string(res.Stdout)); who != "" {
		cause = fmt.Errorf("%s does not start: %s: %w", name, who, cause)
	}
	return fmt.Errorf("%w\nthe end of its journal:\n%s", cause, strings.TrimRight(string(res.Stdout), "\n"))
}
