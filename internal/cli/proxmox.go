package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

type proxmoxKey struct{}

// WithProxmox gives Main other directories than those of a Proxmox host: for tests.
func WithProxmox(ctx context.Context, p spec.Proxmox) context.Context {
	return context.WithValue(ctx, proxmoxKey{}, p)
}

func proxmoxOf(ctx context.Context) spec.Proxmox {
	if p, ok := ctx.Value(proxmoxKey{}).(spec.Proxmox); ok {
		return p
	}
	return spec.Proxmox{Dir: "/etc/pve", State: "/var/lib/lxc", Locks: "/run/lock"}
}

// runtime is what --runtime auto finds: pve where Proxmox's pct and its configuration are, else lxc.
func (a *app) runtime() (string, error) {
	name := a.opts.runtime
	_, err := a.host.Lstat(a.proxmox.Dir)
	here := err == nil
	switch {
	case name == "pve" && !here:
		return "", hint("--runtime lxc uses Debian's lxc", "this is no Proxmox host: there is no %s", a.proxmox.Dir)
	case name == "auto" && here && a.onPath("pct"):
		return "pve", nil
	case name == "auto":
		return "lxc", nil
	}
	return name, nil
}

// onPath reports whether there is a tool of that name.
func (a *app) onPath(tool string) bool {
	for _, dir := range append([]string{"/usr/sbin"}, filepath.SplitList(os.Getenv("PATH"))...) {
		if m, err := a.host.Lstat(filepath.Join(dir, tool)); err == nil && !m.Mode.IsDir() {
			return true
		}
	}
	return false
}

// observeProxmox looks at the storages of a Proxmox host. It runs no command.
func (a *app) observeProxmox(m *config.Machine) error {
	p := a.proxmox
	m.Proxmox = &p
	text, err := a.host.ReadFile(filepath.Join(p.Dir, "storage.cfg"))
	if errors.Is(err, fs.ErrPermission) {
		return hint("run it again with sudo", "only root can read what storages Proxmox has: %w", err)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil && !a.there(filepath.Join(p.Dir, "local")) {
		// Every storage and every container would seem to be gone.
		return hint("systemctl status pve-cluster; systemctl start pve-cluster",
			"%s is empty: Proxmox's cluster file system (pmxcfs) does not run", p.Dir)
	}
	filters, err := a.host.ReadFile(filepath.Join(p.Dir, "firewall", "cluster.fw"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.Filters, m.FilterOn = spec.FilterOn(string(filters)), a.opts.yes
	m.Storages = config.ParseStorages(string(text), provider.ProxmoxNode(a.host, p))
	m.Pools = config.Pools(m.Storages)
	return nil
}

// unknownRoot is a CA's container on a node of a cluster that phoenix made, and whose root nobody here knows: the
// pin is a file of the node that it came from. An empty volume is no proof that it never had a root, and one with a
// root is no proof that it is the right one. Empty: there is none.
func (a *app) unknownRoot(h *house, objects []object.Object) string {
	p := h.machine.Proxmox
	if p == nil || h.machine.NewRoot || h.machine.Pins.Root != "" || !a.there(filepath.Join(p.Dir, "corosync.conf")) {
		return ""
	}
	for _, o := range objects {
		if o.Address.Kind() != spec.KindPin {
			continue
		}
		if a.there(firstRootMark(*p, o.Container)) {
			continue // it is being made for the first time
		}
		raw, err := a.host.ReadFile(filepath.Join(p.Dir, "lxc", o.Container+".conf"))
		notes := strings.ReplaceAll(string(raw), "%3A", ":")
		if err == nil && strings.Contains(notes, "#phoenix: volume/"+o.Container+"/") {
			return o.Container
		}
	}
	return ""
}

func firstRootMark(p spec.Proxmox, id string) string {
	return filepath.Join(p.Dir, "phoenix", "pins", id+spec.FirstRootMark)
}

// markFirstRoot writes down for the cluster that the first root of a CA is about to be made, before its container
// is. Without that, what a killed create leaves could not be told from a CA that came from another node.
func (s *session) markFirstRoot(ctx context.Context, objects []object.Object) error {
	p, m := s.machine.Proxmox, s.machine
	if p == nil || !m.FirstRoot || m.Pins.Root != "" || !s.app.there(filepath.Join(p.Dir, "corosync.conf")) {
		return nil
	}
	for _, o := range objects {
		if o.Address.Kind() != spec.KindPin || o.Container == "" || s.app.there(firstRootMark(*p, o.Container)) {
			continue
		}
		lock := filepath.Join(p.Locks, "lxc", "phoenix-pins.lock")
		mark := firstRootMark(*p, o.Container)
		if _, err := provider.ReplaceProxmox(ctx, s.host, *p, lock, mark, nil, s.version+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// unknownRootWords end the warning that no root is made.
const unknownRootWords = "nobody on this node of the cluster knows its root: none is made, and none is pinned"

func unknownRootWarning(h *house, id string) diag.Diagnostic {
	return diag.Diagnostic{Severity: diag.Warning,
		Summary: "container " + id + " is phoenix's, and " + unknownRootWords,
		Hint: fmt.Sprintf("bring the file %s from the node that the container was on; where it never had a root, "+
			"that one is given up, or the one that it has is yours: phoenix create %s --new-root",
			filepath.Join(h.machine.Root, "pins", id), id)}
}

// tellFilter says, whatever else a command shows, that the containers' firewalls wait for a switch, and that no root is
// made.
func (s *session) tellFilter() {
	for _, d := range s.diags {
		if d.Summary == config.FilterOff || strings.HasSuffix(d.Summary, unknownRootWords) {
			fmt.Fprintf(s.stderr, "warning: %s\n  hint: %s\n", d.Summary, d.Hint)
		}
	}
}

// proxmoxReady fails, before anything is touched, where Proxmox cannot be changed or one of the containers is not on
// this node.
func (s *session) proxmoxReady(containers []string) error {
	if s.machine.Proxmox == nil {
		return nil
	}
	if err := provider.ProxmoxWritable(s.host, *s.machine.Proxmox); err != nil {
		return hinting(err)
	}
	var errs []error
	for _, id := range containers {
		errs = append(errs, provider.ProxmoxHere(s.host, *s.machine.Proxmox, id))
	}
	return hinting(errors.Join(errs...))
}

// placed are the containers and the templates that they come from.
func (s *session) placed(containers []string) []string {
	var out []string
	for _, o := range plan.Select(s.objects, containers) {
		switch o.Address.Kind() {
		case spec.KindContainer, spec.KindTemplate:
			out = append(out, o.Container)
		}
	}
	return out
}

// deletable are the containers, and templates among them, that a delete is about.
func (s *session) deletable(ids []string, all bool) []string {
	if all {
		return s.ids()
	}
	return ids
}

// hinting takes the hint along that a provider's error has.
func hinting(err error) error {
	if text := provider.Hint(err); text != "" {
		return hint(text, "%w", err)
	}
	return err
}

// enterArgv is the command line that runs argv inside a running container: by lxc's own tool, which is there on a
// Proxmox host too and costs a hundredth of Proxmox's.
func (a *app) enterArgv(r spec.Running, argv ...string) []string {
	if r.Proxmox != nil && !a.onPath("lxc-attach") {
		return append([]string{"pct", "exec", r.ID, "--keep-env", "0", "--"}, argv...)
	}
	return provider.Inside{Path: r.Path, ID: r.ID}.Enter(argv...)
}
