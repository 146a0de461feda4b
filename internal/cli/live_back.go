package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// rollback goes back to the old layout, while the shared directory exists.
func (m *mover) rollback(ctx context.Context) error {
	switch {
	case m.journal.there(m.journal.shredded()):
		return hint(m.again("health")+" and apply: what is there now is all there is",
			"there is no way back: the old directory was emptied (%s)",
			strings.TrimSpace(m.journal.read(m.journal.shredded())))
	case !m.journal.there(m.journal.shared()):
		m.view.Moved(view.Moved{Made: m.opts.yes, Done: true, Notes: []string{"there is nothing to go back from: no " +
			"migration was begun here, or it was taken back already"}})
		return nil
	}
	if err := errors.Join(m.oldIsThere(), m.allThere()); err != nil {
		return err
	}
	steps := m.backwards()
	out := view.Moved{Made: m.opts.yes}
	if !m.opts.yes {
		out.Next = []string{m.again("migrate --live --rollback --yes" + m.fromFlag())}
		for _, s := range steps {
			done, err := s.done(ctx)
			out.Steps = append(out.Steps, view.Step{Name: s.name, What: s.what, Done: done && err == nil})
		}
		m.view.Moved(out)
		return nil
	}
	if err := m.hold(m.old.ids(), heldMoving); err != nil {
		return err
	}
	for _, s := range steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if done, err := s.done(ctx); err == nil && done {
			continue
		}
		m.view.Step(s.name + ": " + s.what)
		if err := s.do(ctx); err != nil {
			return hint(m.again("migrate --live --rollback --yes"+m.fromFlag())+" goes on from there", "%s: %w", s.name,
				err)
		}
		out.Steps = append(out.Steps, view.Step{Name: s.name, What: s.what, Done: true})
	}
	out.Done, out.Elapsed = true, m.elapsed()
	out.Notes = []string{"the new volumes are kept below " + filepath.Join(m.machine.Root, "volumes") +
		"; what is in the shared directory is as exposed as it was"}
	m.view.Moved(out)
	return nil
}

// oldIsThere fails where the shared directory is gone or empty.
func (m *mover) oldIsThere() error {
	shared := m.journal.sharedPath()
	names, err := m.host.ReadDir(shared)
	if err == nil && len(names) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return hint("its closed copy is "+m.journal.copy(), "the old containers cannot run without the old "+
			"directory %s: %w", shared, err)
	}
	return nil
}

// allThere fails where a container was deleted since.
func (m *mover) allThere() error {
	for _, g := range m.old.guests {
		if m.journal.there(m.journal.config(g.id)) && !m.journal.there(g.file) {
			return hint(m.again("create "+g.id)+" makes it anew there; its old /etc and /usr/local then go into "+
				"that, what else it had is lost",
				"container %s was deleted: there is nothing to go back with in %s", g.id, g.file)
		}
	}
	return nil
}

func (m *mover) backwards() []step {
	var steps []step
	for _, g := range m.old.guests {
		steps = append(steps, step{"container " + g.id, "its files and its definition are put back, and it is " +
			"started as it was",
			func(ctx context.Context) (bool, error) {
				return m.isBack(ctx, g)
			}, func(ctx context.Context) error { return m.bring(ctx, g) }})
	}
	never := func(context.Context) (bool, error) { return false, nil }
	return append(steps,
		step{"configuration", "the old files of the configuration are put back", never, m.bringFiles},
		step{"forget", "pin, names and journal of the migration are removed, and the closed copy", never, m.forget})
}

// isBack is whether a container runs with its old definition. Where its definition was never touched there is nothing
// to bring.
func (m *mover) isBack(ctx context.Context, g guest) (bool, error) {
	if !m.journal.there(m.journal.config(g.id)) {
		return true, nil
	}
	raw, err := m.host.ReadFile(g.file)
	if err != nil || !m.old.isOld(g, string(raw)) {
		return false, err
	}
	pid, err := m.at(g).InitPID(ctx, m.host)
	return pid != 0 && provider.TakenOver(m.host, g.home, pid) == "" && !isThere(m.host, m.restored(g)), err
}

// at is the container as lxc finds it by its old place.
func (m *mover) at(g guest) provider.Inside {
	if m.machine.Proxmox != nil {
		return provider.Inside{ID: g.id}
	}
	return provider.Inside{Path: filepath.Dir(g.home), ID: g.id}
}

// restored is there from before a container's files are put back until it was started with them.
func (m *mover) restored(g guest) string { return filepath.Join(m.journal.guest(g.id), "going-back") }

// bring puts a container's files back from the inside, its definition from the outside, and restarts it.
func (m *mover) bring(ctx context.Context, g guest) error {
	raw, err := m.host.ReadFile(g.file)
	if err != nil {
		return err
	}
	if !m.old.isOld(g, string(raw)) {
		if err := m.journal.write(m.restored(g), ""); err != nil {
			return err
		}
		if err := m.wake(ctx, g); err != nil {
			return err
		}
		if err := m.bringTree(ctx, g); err != nil {
			return err
		}
		if err := m.halt(ctx, g); err != nil {
			return err
		}
		if err := m.bringDefinition(ctx, g); err != nil {
			return err
		}
	} else if isThere(m.host, m.restored(g)) {
		if err := m.halt(ctx, g); err != nil {
			return err
		}
	}
	if err := m.wake(ctx, g); err != nil {
		return err
	}
	if err := m.meetAgain(ctx, g.id); err != nil {
		return err
	}
	return m.host.Remove(m.restored(g))
}

func (m *mover) bringDefinition(ctx context.Context, g guest) error {
	if m.machine.Proxmox != nil {
		return m.bringProxmox(ctx, g)
	}
	if err := provider.LetGo(m.host, g.home); err != nil {
		return err
	}
	var mode uint32
	var owner host.Owner
	if _, err := fmt.Sscanf(m.journal.read(m.journal.home(g.id)), "%o %d:%d", &mode, &owner.UID,
		&owner.GID); err != nil {
		return fmt.Errorf("%s: %w", m.journal.home(g.id), err)
	}
	if err := errors.Join(m.host.Chown(g.home, owner), m.host.Chmod(g.home, fs.FileMode(mode))); err != nil {
		return err
	}
	if link := filepath.Join(m.machine.Root, "lxc", g.id); link != g.home {
		if err := m.host.Remove(link); err != nil {
			return err
		}
	}
	return m.host.WriteFile(filepath.Join(g.home, "config"), []byte(g.config), 0o644, host.Root)
}

// putBack makes etc and usr/local in $1 what they were: what is not in the archive goes, and what is mounted there is
// left alone. It stops first what would put things right again, and waits for one like it that goes on though phoenix
// was killed: two at once leave tar's placeholders in the place of links.
const putBack = `set -e
cd "$1"
exec 9<.
! command -v flock >/dev/null || flock 9
systemctl disable --now phoenix-agent.service 2>/dev/null || true
umask 077
mkdir -p var/tmp
t=var/tmp/phoenix-back.$$
trap 'rm -f "$t" "$t".*' EXIT
cat >"$t"
set -- -false
while read -r _ _ _ _ at _; do
	case $at in /etc/*|/usr/local/*) set -- "$@" -o -path "${at#/}" ;; esac
done </proc/self/mountinfo
tar --list --file="$t" --quoting-style=literal >"$t.list"
sed 's,/$,,' "$t.list" | sort >"$t.had"
[ -s "$t.had" ]
find etc usr/local \( "$@" \) -prune -o -print | sort | comm -13 "$t.had" - | sort -r >"$t.new"
while IFS= read -r f; do
	if [ -d "$f" ] && [ ! -L "$f" ]; then rmdir "$f" 2>/dev/null || true; else rm -f "$f" 2>/dev/null || true; fi
done <"$t.new"
tar --extract --file="$t" --numeric-owner --xattrs
rm -rf var/lib/phoenix
systemctl daemon-reload 2>/dev/null || true
sync`

func (m *mover) bringTree(ctx context.Context, g guest) error {
	argv := m.at(g).Enter("sh", "-c", putBack, "sh", "/")
	_, err := m.host.Run(ctx, host.Command{
		Argv:    append([]string{"sh", "-c", `f=$1; shift; exec "$@" <"$f"`, "sh", m.journal.tree(g.id)}, argv...),
		Mutates: true, Limit: copyLimit,
	})
	return err
}

func (m *mover) halt(ctx context.Context, g guest) error {
	pid, err := m.at(g).InitPID(ctx, m.host)
	if err != nil || pid == 0 {
		return err
	}
	argv := m.at(g).Tool("lxc-stop", "--timeout", "30")
	if m.machine.Proxmox != nil { // not by its object: the container may not be phoenix's any more
		argv = []string{"pct", "shutdown", g.id, "--timeout", "30", "--forceStop", "1"}
	}
	_, err = m.host.Run(ctx, host.Command{Argv: argv, Mutates: true})
	return err
}

// wake starts a container that does not run, and waits until it has booted.
func (m *mover) wake(ctx context.Context, g guest) error {
	pid, err := m.at(g).InitPID(ctx, m.host)
	if err != nil {
		return err
	}
	switch {
	case pid != 0:
	case m.machine.Proxmox != nil:
		_, err = provider.ProxmoxStart(ctx, m.host, g.id)
	default:
		_, err = m.host.Run(ctx, host.Command{Argv: m.at(g).Tool("lxc-start", "--daemon"), Mutates: true})
	}
	if err != nil {
		return err
	}
	return m.at(g).WaitBooted(ctx, m.host, func(ctx context.Context) error {
		if pid, err := m.at(g).InitPID(ctx, m.host); err != nil || pid == 0 {
			return errors.Join(err, fmt.Errorf("container %s ended while it was booting", g.id))
		}
		return nil
	})
}

func (m *mover) bringFiles(context.Context) error {
	list, err := m.journal.replaced()
	if err != nil {
		return err
	}
	for _, r := range list {
		raw, err := m.host.ReadFile(r.Kept)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was never replaced, or is back already
		}
		if err != nil {
			return err
		}
		meta, err := m.host.Lstat(r.Kept)
		if err != nil {
			return err
		}
		if err := m.host.WriteFile(r.File, raw, meta.Mode.Perm(),
			host.Owner{UID: meta.UID, GID: meta.GID}); err != nil {
			return err
		}
		if err := m.host.Remove(r.Kept); err != nil {
			return err
		}
	}
	return nil
}

// forget takes away what phoenix does on the hypervisor for a house that is not its own any more.
func (m *mover) forget(ctx context.Context) error {
	if err := m.release(m.old.ids()); err != nil {
		return err
	}
	dns := m.where(func(o object.Object) bool { return o.Address.Kind() == spec.KindDNS })
	if _, err := m.target.Remove(ctx, dns, engine.Delete); err != nil {
		return err
	}
	if path := m.pinPath(); path != "" {
		if err := m.host.Remove(path); err != nil {
			return err
		}
	}
	return m.host.RemoveAll(m.journal.dir)
}
