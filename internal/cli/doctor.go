package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "what on this machine keeps containers from working; exit 0 nothing, 3 something",
		Long: `doctor looks at the machine itself: firewalls of others (Docker, ufw, firewalld), who
has port 53 and the bridge's subnet, mounts, room and inodes, control groups, AppArmor,
limits of the kernel, the clock, Debian's mirror and apt's proxy. It names who is in the
way and the command that helps. It needs no configuration; where there is one, it looks
at what that one says. It changes nothing.`,
		Example: `  phoenix doctor
  phoenix doctor --config examples/homelab
  phoenix doctor -o json`,
		Args: nothingMore,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			if os.Geteuid() != 0 {
				return hint("run it again with sudo", "only root sees the rules of firewalls and whose sockets are whose")
			}
			m, err := a.examined(ctx)
			if err != nil {
				return err
			}
			report := a.examine(ctx, m)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			a.view.Health(report)
			if !report.Healthy {
				return codeError(exitUnhealthy)
			}
			return nil
		}),
	}
}

// examined is the machine as the configuration has it; without one, as init would.
func (a *app) examined(ctx context.Context) (health.Machine, error) {
	m, err := health.Machine{}, error(nil)
	if a.configured() {
		h, err := a.load()
		if err != nil {
			return m, err
		}
		m = health.MachineOf(h.objects)
		m.Creates = health.Creates(a.host, h.objects)
		m.Proxmox = h.machine.Runtime == "pve"
		m.Suite = suiteOf(h.objects)
	} else if m, err = a.unconfigured(ctx); err != nil {
		return m, err
	}
	m.Strict = true
	root, err := a.rootDirectory()
	if err != nil {
		return m, err
	}
	for _, dir := range []string{root, cacheDirectory()} {
		if !slices.Contains(m.Directories, dir) {
			m.Directories = append(m.Directories, dir)
		}
	}
	a.lookAtMirrors(ctx, &m)
	return m, nil
}

// configured is whether there is a configuration, good or bad, or one is named.
func (a *app) configured() bool {
	return len(a.opts.config) > 0 ||
		slices.ContainsFunc(defaultConfig, func(dir string) bool { return len(a.usual(dir)) > 0 })
}

// unconfigured is what init would write.
func (a *app) unconfigured(ctx context.Context) (m health.Machine, err error) {
	seen, err := a.lookAround(ctx)
	if err != nil {
		return m, err
	}
	own := seen.freeNet()
	m = health.Machine{Bridge: usualBridge, Address: fmt.Sprintf("%s/%d", own.Masked().Addr().Next(), own.Bits()),
		Outside: true, Creates: true, Proxmox: seen.proxmox}
	if has, known := seen.addresses[usualBridge]; known {
		m.Address = has.String()
	}
	m.Listen = []string{strings.SplitN(m.Address, "/", 2)[0]}
	if root, err := a.rootDirectory(); err == nil {
		m.ResolverDir = filepath.Join(root, "dns")
	}
	for _, at := range seen.resolvers {
		m.Upstreams = append(m.Upstreams, at.String())
	}
	return m, nil
}

func suiteOf(objects []object.Object) string {
	for _, o := range objects {
		var t spec.Template
		if o.Address.Kind() == spec.KindTemplate && decode(o.Spec, &t) == nil && t.Suite != "" {
			return t.Suite
		}
	}
	return ""
}

// lookAtMirrors adds where a template would come from, if apt on this machine says.
func (a *app) lookAtMirrors(ctx context.Context, m *health.Machine) {
	if m.Suite == "" {
		release, _ := a.host.ReadFile("/etc/os-release")
		m.Suite = cmp.Or(config.HostSuite(string(release)), config.FallbackSuite)
	}
	m.Mirrors = provider.Mirrors(a.host, m.Suite)
	m.Proxy = provider.AptProxy(ctx, a.host)
}

// examine runs the checks of the machine, as many at once as can be.
func (a *app) examine(ctx context.Context, m health.Machine) health.Report {
	board := health.NewBoard(health.MachineChecks(m))
	engine.Stream(patience/4, board.Ready, func(c health.Check) health.Result { return health.Run(ctx, a.host, c) },
		board.Done)
	return board.Report()
}

// fitLimit is how long the look at the machine before a run may take.
const fitLimit = 10 * time.Second

// fit fails, before anything is changed, where the machine keeps the containers from working: what would only be
// tried again and again is told at once, with who is in the way. What needs no file system to be made and no mirror is
// not asked about those.
func (s *session) fit(ctx context.Context, objects []object.Object) error {
	if s.standIn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fitLimit)
	defer cancel()
	m := health.MachineOf(objects)
	m.Creates, m.Proxmox = health.Creates(s.host, objects), s.machine.Runtime == "pve"
	if len(m.Directories) == 0 {
		m.Directories = []string{s.machine.Root}
	}
	if s.fetches(objects) {
		m.Suite = suiteOf(objects)
		s.lookAtMirrors(ctx, &m)
	}
	m.Upstreams = nil // the containers come up without
	var summaries, fixes []string
	for _, r := range s.examine(ctx, m).Checks {
		if r.Status != health.Fail || r.ID == health.Headroom {
			continue
		}
		summaries = append(summaries, fmt.Sprintf("%s: %s (%s)", r.ID, r.Summary, r.Evidence))
		fixes = append(fixes, r.Fix)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	if len(summaries) == 0 {
		return nil
	}
	return hint(strings.Join(fixes, "\n        "),
		"this machine keeps the containers from working; nothing was changed\n  %s", strings.Join(summaries, "\n  "))
}

// fetches is whether a template of the objects is yet to be built, of what a mirror has.
func (s *session) fetches(objects []object.Object) bool {
	return slices.ContainsFunc(objects, func(o object.Object) bool {
		var t spec.Template
		if o.Address.Kind() != spec.KindTemplate || decode(o.Spec, &t) != nil || t.Archive != "" {
			return false
		}
		_, err := s.host.Lstat(filepath.Join(t.Dir, t.ID, "rootfs"))
		built := provider.Debian{Suite: t.Suite, Mirror: t.Mirror, Packages: t.Packages, Cache: t.Cache}
		_, cached := s.host.Lstat(built.Cached())
		return err != nil && cached != nil
	})
}

// unfit are warnings of setup about what it does not see to.
func (a *app) unfit(ctx context.Context, h *house) (out diag.List) {
	if os.Geteuid() != 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fitLimit)
	defer cancel()
	m, err := a.examined(ctx)
	if err != nil {
		return nil // it is about containers, which setup has not to do with
	}
	m.Proxmox = h.machine.Runtime == "pve"
	for _, r := range a.examine(ctx, m).Checks {
		if r.Status == health.Fail && r.ID != health.Headroom {
			out = append(out, diag.Diagnostic{Severity: diag.Warning, Summary: r.ID + ": " + r.Summary, Detail: r.Evidence,
				Hint: r.Fix})
		}
	}
	return out
}
