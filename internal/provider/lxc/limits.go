package lxc

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// limitKeys are the keys of limits that a running container gets without a restart, with what holds where the
// configuration has none.
var limitKeys = []struct{ key, none string }{
	{"lxc.cgroup2.memory.max", "max"}, {"lxc.cgroup2.memory.swap.max", "max"}, {"lxc.cgroup2.cpu.max", "max 100000"},
	{"lxc.cgroup2.pids.max", "max"},
	{"lxc.cgroup.memory.limit_in_bytes", ""}, {"lxc.cgroup.cpu.cfs_period_us", ""},
	{"lxc.cgroup.cpu.cfs_quota_us", "-1"}, {"lxc.cgroup.pids.max", "max"},
}

// plainLimit is a value that the kernel shows as it was written.
var plainLimit = regexp.MustCompile(`^(-?[0-9]+|max)( [0-9]+)?$`)

// limitDrift compares the limits that hold with those of the configuration.
func limitDrift(d *plan.Delta, h host.Host, config map[string]string, pid int) {
	for _, l := range limitKeys {
		want := config[l.key]
		if i := strings.LastIndex(want, "; "); i >= 0 {
			want = want[i+2:] // the last one holds
		}
		if want == "" {
			want = l.none
		}
		if have, ok := provider.LimitOf(h, pid, l.key); ok && plainLimit.MatchString(want) && have.Value != want {
			d.Compare(l.key, have.Value, want)
		}
	}
}

func isLimit(path string) bool {
	return slices.ContainsFunc(limitKeys, func(l struct{ key, none string }) bool { return l.key == path })
}

// onlyLimits reports whether two configurations differ in nothing that a running container cannot be given.
func onlyLimits(old, text string) bool {
	rest := func(config string) string {
		var kept []string
		for line := range strings.Lines(config) {
			key, _, _ := strings.Cut(strings.TrimSpace(line), " = ")
			if !isLimit(key) && !strings.HasPrefix(line, "lxc.environment = "+definitionVar+"=") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	return rest(old) == rest(text)
}

// carryOver lets a running container count as started with the new configuration, where that only has other limits:
// Running gives it those while it runs. It comes before the configuration is written. Killed in between, the next run
// begins here again.
func carryOver(ctx context.Context, h host.Host, s spec.Container, old string) error {
	text := render(s)
	if old == "" || !onlyLimits(old, text) {
		return nil
	}
	pid, err := inside(s.Path, s.ID).InitPID(ctx, h)
	if err != nil || pid == 0 {
		return err
	}
	if _, ok := provider.LimitOf(h, pid, "lxc.cgroup2.pids.max"); !ok {
		if _, ok := provider.LimitOf(h, pid, "lxc.cgroup.pids.max"); !ok {
			return nil // it gets them with a restart
		}
	}
	with, err := startedWith(h, pid)
	if taken := provider.TakenOver(h, home(s.Path, s.ID), pid); taken != "" {
		with = taken
	}
	if err != nil || with != definition(old) {
		return err
	}
	return provider.TakeOver(h, home(s.Path, s.ID), pid, definition(text))
}

// setLimits gives a running container what differs; false: it has to be restarted, as something else differs too, or
// what it uses already does not fit.
func setLimits(ctx context.Context, h host.Host, have *RunningStatus) (done bool, err error) {
	for _, f := range have.Drift {
		if !isLimit(f.Path) {
			return false, nil
		}
	}
	for _, f := range have.Drift {
		l, ok := provider.LimitOf(h, have.PID, f.Path)
		if !ok || !fits(h, have.PID, f) {
			return false, nil
		}
		if err := l.Set(ctx, h, f.Want); err != nil {
			return false, ctx.Err()
		}
	}
	return true, nil
}

// fits reports whether less memory than before is enough for what the container uses: the kernel would end processes in
// it.
func fits(h host.Host, pid int, f plan.Field) bool {
	usage := map[string]string{"lxc.cgroup2.memory.max": "lxc.cgroup2.memory.current",
		"lxc.cgroup.memory.limit_in_bytes": "lxc.cgroup.memory.usage_in_bytes"}[f.Path]
	want, err := strconv.ParseInt(f.Want, 10, 64)
	if usage == "" || err != nil {
		return true
	}
	l, ok := provider.LimitOf(h, pid, usage)
	used, err := strconv.ParseInt(l.Value, 10, 64)
	return ok && err == nil && used < want
}
