package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// closing are the steps that put aside what the way back needs, and change nothing that runs.
func (m *mover) closing() []step {
	j := m.journal
	return []step{
		{"copy", fmt.Sprintf("a closed copy of %s, which %s see, in %s", m.old.shared,
			strings.Join(m.old.sharedWith, ", "), j.copy()),
			func(context.Context) (bool, error) {
				return j.there(j.copy()) && j.there(j.leakedFile()), nil
			}, m.closedCopy},
		{"keep", "definitions, /etc and /usr/local of " + strings.Join(m.old.ids(), ", ") +
			" are kept for the way back", m.kept, m.keep},
		{"pin", "the old root is pinned: no other one is made", m.pinned, m.pin},
	}
}

// closedCopy copies the shared directory to where only root gets, aside and renamed.
func (m *mover) closedCopy(ctx context.Context) error {
	j := m.journal
	if err := errors.Join(j.write(filepath.Join(j.dir, "from"), m.app.moving.from+"\n"),
		j.write(j.shared(), m.old.shared+"\n")); err != nil {
		return err
	}
	if !j.there(j.copy()) {
		aside := j.copy() + ".new"
		if err := m.host.RemoveAll(aside); err != nil {
			return err
		}
		argv := []string{m.machine.Binary.Path, "agent", "copy", "--closed", m.old.shared, aside}
		if _, err := m.host.Run(ctx, host.Command{Argv: argv, Mutates: true, Limit: copyLimit}); err != nil {
			return err
		}
		if err := m.host.Rename(aside, j.copy()); err != nil {
			return err
		}
	}
	found, err := m.inventory()
	if err != nil {
		return err
	}
	return j.write(j.leakedFile(), strings.Join(found.leaked(), "\n")+"\n")
}

func (m *mover) kept(context.Context) (bool, error) {
	for _, g := range m.old.guests {
		if !m.journal.there(m.journal.config(g.id)) {
			return false, nil
		}
	}
	return true, nil
}

// keep saves each container's files and then its definition, whose presence says that all is there.
func (m *mover) keep(ctx context.Context) error {
	j := m.journal
	for _, g := range m.old.guests {
		if j.there(j.config(g.id)) {
			continue
		}
		if pid, err := m.inside(g.id).InitPID(ctx, m.host); err != nil || pid == 0 {
			return errors.Join(err, hint("start it: what runs is moved", "container %s does not run", g.id))
		}
		if err := j.write(j.home(g.id), ""); err != nil { // for its directory
			return err
		}
		argv := m.inside(g.id).Enter("sh", "-c", pack, "sh", "/")
		save := []string{"sh", "-c", `umask 077; ulimit -f 67108864; t=$1; shift; "$@" >"$t" && sync "$t"`, "sh",
			j.tree(g.id)}
		if _, err := m.host.Run(ctx,
			host.Command{Argv: append(save, argv...), Mutates: true, Limit: copyLimit}); err != nil {
			return err
		}
		if meta, err := m.host.Lstat(g.home); err == nil && m.machine.Proxmox == nil {
			if err := j.write(j.home(g.id),
				fmt.Sprintf("%04o %d:%d\n", meta.Mode.Perm(), meta.UID, meta.GID)); err != nil {
				return err
			}
		}
		if err := j.write(j.config(g.id), g.config); err != nil {
			return err
		}
	}
	return nil
}

// pack writes what $1 has in etc and usr/local, without what is mounted there, which may well be of the same file
// system.
const pack = `cd "$1" || exit 1
set --
while read -r _ _ _ _ at _; do
	case $at in /etc/*|/usr/local/*) set -- "$@" "--exclude=${at#/}" ;; esac
done </proc/self/mountinfo
exec tar --create --anchored --numeric-owner --xattrs "$@" etc usr/local`

func (m *mover) pinPath() string {
	for _, o := range m.objects {
		var p spec.Pin
		if o.Address.Kind() == spec.KindPin && decode(o.Spec, &p) == nil {
			return p.Path
		}
	}
	return ""
}

func (m *mover) pinned(context.Context) (bool, error) {
	return m.pinPath() != "" && isThere(m.host, m.pinPath()), nil
}

// pin writes the old root's fingerprint before anything else of the CA is touched: from here on no other root is made
// silently.
func (m *mover) pin(context.Context) error {
	found, err := m.inventory()
	if err != nil {
		return err
	}
	root, err := found.root()
	if err != nil {
		return err
	}
	path := m.pinPath()
	if err := m.host.MkdirAll(filepath.Dir(path), 0o711, host.Root); err != nil {
		return err
	}
	return m.host.WriteFile(path, []byte(root+"\n"), 0o644, host.Root)
}

// writeConfiguration does what migrate --write does, and remembers where the old files are.
func (m *mover) writeConfiguration(context.Context) error {
	list, err := m.journal.replaced()
	if err != nil {
		return err
	}
	for _, f := range m.mig.Files {
		if string(f.Old) == string(f.New) {
			continue
		}
		kept, err := m.unused(followed(f.Name))
		if err != nil {
			return err
		}
		list = append(list, replaced{File: absolute(followed(f.Name)), Kept: absolute(kept)})
		if err := m.journal.replace(list); err != nil { // before: what is not there is passed over on the way back
			return err
		}
		if _, err := m.replaceFile(f); err != nil {
			return err
		}
	}
	return nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// moving are the steps that change what runs.
func (m *mover) moving() []step {
	others := slices.DeleteFunc(m.old.ids(), func(id string) bool { return id == m.old.ca })
	steps := []step{
		{"take over", strings.Join(m.old.ids(), ", ") + " are taken over where they are, with their root file systems",
			m.marked, m.takeOver},
		{"configuration", "the configuration is written without the shared directory; the old files stay beside it",
			func(context.Context) (bool, error) { return len(m.mig.Changes) == 0, nil }, m.writeConfiguration},
		{"volumes", "each gets volumes of its own, and a definition without the shared directory for its next start",
			func(ctx context.Context) (bool, error) {
				p, err := m.pending(ctx, m.definitions())
				return !p, err
			}, m.makeVolumes},
		{"ca", "container " + m.old.ca + " is restarted on its own volume: the same root, a new intermediate with a " +
			"new key and password, ACME as the only provisioner",
			func(ctx context.Context) (bool, error) {
				p, err := m.pending(ctx, m.of(m.old.ca))
				return !p, err
			}, m.moveCA},
		{"join", "the new volumes are mounted into " + strings.Join(others, ", ") + " while they run", m.joined,
			m.join},
		{"prepare", "users, programs and the root certificate go into " + strings.Join(others, ", "),
			func(ctx context.Context) (bool, error) {
				p, err := m.pending(ctx, m.early(others))
				return !p, err
			}, m.makeReady},
		{"switch", "gateway and proxy change to certificates by ACME, with new keys; a second proxy answers while " +
			"the first is made new",
			func(ctx context.Context) (bool, error) {
				p, err := m.pending(ctx, m.insides(others))
				return !p && !m.bridged(ctx), err
			}, m.change},
		{"unmount", "the shared directory is taken out of the running containers", m.unmounted, m.unmount},
		{"settle", "whatever is left to do, by an ordinary apply; from then on they are like all others",
			func(ctx context.Context) (bool, error) {
				o, _ := m.selected(m.old.ids())
				p, err := m.pending(ctx, m.unrestarted(ctx, o))
				return !p && !slices.ContainsFunc(m.old.ids(), m.held), err
			}, m.settle},
	}
	if m.machine.Proxmox != nil { // whose containers are where they are, and mounts new volumes itself
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.name == "join" })
	}
	return steps
}

// unrestarted leaves out the running of containers that must not be restarted now, though something of theirs waits for
// it.
func (m *mover) unrestarted(ctx context.Context, objects []object.Object) []object.Object {
	return slices.DeleteFunc(slices.Clone(objects), func(o object.Object) bool {
		if o.Address.Kind() != spec.KindRunning || m.machine.Proxmox == nil || o.Container == m.old.ca {
			return false
		}
		obs, err := m.target.Observe(ctx, o)
		return err == nil && obs.Delta.Interrupts
	})
}

func (m *mover) marked(context.Context) (bool, error) {
	for _, g := range m.old.guests {
		raw, err := m.host.ReadFile(g.file)
		if err != nil || !m.isMarked(g, string(raw)) {
			return false, err
		}
	}
	return true, nil
}

// takeOver puts phoenix's mark above each definition, and a link to each in phoenix's own directory.
func (m *mover) takeOver(ctx context.Context) error {
	if err := m.reopen(); err != nil { // with the pin
		return err
	}
	if err := m.hold(m.old.ids(), heldMoving); err != nil {
		return err
	}
	if m.machine.Proxmox != nil {
		for _, g := range m.old.guests {
			if err := m.markProxmox(ctx, g); err != nil {
				return err
			}
		}
		return nil
	}
	own := filepath.Join(m.machine.Root, "lxc")
	if err := m.host.MkdirAll(own, 0o711, host.Root); err != nil {
		return err
	}
	for _, g := range m.old.guests {
		link := filepath.Join(own, g.id)
		if link != g.home && !isThere(m.host, link) {
			if err := m.host.Symlink(g.home, link); err != nil {
				return err
			}
		}
		path := filepath.Join(g.home, "config")
		raw, err := m.host.ReadFile(path)
		if err != nil {
			return err
		}
		if marked(g.id, string(raw)) {
			continue
		}
		if err := m.host.WriteFile(path, []byte(g.mark()+"\n"+string(raw)), 0o644, host.Root); err != nil {
			return err
		}
	}
	return nil
}

// definitions are networks, templates, volumes and the containers' definitions.
func (m *mover) definitions() []object.Object {
	all, _ := m.selected(m.old.ids())
	kinds := []string{spec.KindNetwork, spec.KindDNS, spec.KindTemplate, spec.KindVolume, spec.KindContainer}
	return slices.DeleteFunc(slices.Clone(all),
		func(o object.Object) bool { return o.Host != "" || !slices.Contains(kinds, o.Address.Kind()) })
}

// makeVolumes makes the volumes, takes along what was in the containers' own ones, and then writes the definitions.
func (m *mover) makeVolumes(ctx context.Context) error {
	if err := m.reopen(); err != nil {
		return err
	}
	all := m.definitions()
	if m.machine.Proxmox != nil {
		return m.applyAll(ctx, all)
	}
	before := slices.DeleteFunc(slices.Clone(all),
		func(o object.Object) bool { return o.Address.Kind() == spec.KindContainer })
	if err := m.applyAll(ctx, before); err != nil {
		return err
	}
	for _, g := range m.old.guests {
		if err := m.takeAlong(ctx, g); err != nil {
			return err
		}
	}
	return m.applyAll(ctx, all)
}

// takeAlong copies what a container kept on storage that it shared with nobody, where the new layout has a volume in
// its place.
func (m *mover) takeAlong(ctx context.Context, g guest) error {
	want, ok := specOf[spec.Container](m.objects, object.NewAddress(spec.KindContainer, g.id))
	raw, err := m.host.ReadFile(filepath.Join(g.home, "config"))
	if err != nil || !ok || provider.Definition(string(raw)) != "" { // it has its new definition: this was done
		return err
	}
	for _, v := range want.Mounts {
		i := slices.IndexFunc(g.mounts, func(o spec.Mount) bool { return o.Target == v.Target && o.Source != v.Source })
		if i < 0 || len(m.old.seeing(g.mounts[i].Source)) > 1 {
			continue
		}
		argv := []string{m.machine.Binary.Path, "agent", "copy", "--update", g.mounts[i].Source, v.Source}
		if _, err := m.host.Run(ctx, host.Command{Argv: argv, Mutates: true, Limit: copyLimit}); err != nil {
			return err
		}
		m.notes = append(m.notes,
			fmt.Sprintf("container %s: what was in %s is now in its volume %s; the old directory "+
				"is left as it is", g.id, g.mounts[i].Source, v.Source))
	}
	return nil
}

// of are a container's objects that can be made true without others'.
func (m *mover) of(id string) []object.Object { return m.own([]string{id}) }

// insides are what lives inside of containers.
func (m *mover) insides(ids []string) []object.Object {
	return m.where(func(o object.Object) bool { return o.Host != "" && slices.Contains(ids, o.Container) })
}

// early are those of them that touch nothing that answers clients.
func (m *mover) early(ids []string) []object.Object {
	kinds := []string{spec.KindFile, spec.KindUser, spec.KindPackage, spec.KindTrust, spec.KindBinary}
	return m.where(func(o object.Object) bool {
		return slices.Contains(ids, o.Container) && slices.Contains(kinds, o.Address.Kind())
	})
}

func (m *mover) inside(id string) provider.Inside {
	r, _ := specOf[spec.Running](m.objects, object.NewAddress(spec.KindRunning, id))
	return provider.Inside{Path: r.Path, ID: id}
}

// moveCA restarts the CA's container on its own volume and hands it the old root, in memory.
func (m *mover) moveCA(ctx context.Context) error {
	if err := m.reopen(); err != nil {
		return err
	}
	id := m.old.ca
	binary := m.where(func(o object.Object) bool { return o.Container == id && o.Address.Kind() == spec.KindBinary })
	if err := m.freshCA(ctx, id); err != nil {
		return err
	}
	if err := m.applyAll(ctx, append(m.outside([]string{id}), binary...)); err != nil {
		return err
	}
	if err := m.handOver(ctx, id); err != nil {
		return err
	}
	if err := m.applyAll(ctx, m.of(id)); err != nil {
		return err
	}
	_, err := m.inside(id).Attach(ctx, m.host, host.Command{Mutates: true}, "sh", "-c", `rm -rf "$1"`, "sh",
		importDirectory)
	return err
}

// freshCA stops a CA that has the shared directory mounted below its own volume: Proxmox mounts that into the running
// container.
func (m *mover) freshCA(ctx context.Context, id string) error {
	g, _ := m.old.guest(id)
	pid, err := m.inside(id).InitPID(ctx, m.host)
	if err != nil || pid == 0 || m.machine.Proxmox == nil {
		return err
	}
	at := m.mountedAt(pid)
	twice := slices.ContainsFunc(g.mounts, func(o spec.Mount) bool {
		return len(slices.DeleteFunc(slices.Clone(at), func(x string) bool { return x != o.Target })) > 1
	})
	if !twice {
		return nil
	}
	running := m.where(func(o object.Object) bool { return o.Container == id && o.Address.Kind() == spec.KindRunning })
	_, err = m.target.Remove(ctx, running, engine.Stop)
	return err
}

// receive unpacks certificates, keys and passwords into memory, unless the volume has its root already.
const receive = `set -e
umask 077
rm -rf "$1"
mkdir -p "$1"
exec tar --extract --directory="$1" --no-same-owner --file=-`

func (m *mover) handOver(ctx context.Context, id string) error {
	s, _ := specOf[spec.StepCA](m.objects, object.NewAddress(spec.KindStepCA, id))
	if m.has(ctx, id, filepath.Join(s.Dir, "secrets", "root", "ca.crt")) {
		return nil
	}
	into := m.inside(id).Enter("sh", "-c", receive, "sh", importDirectory)
	pipe := `cd "$1" && shift && find . -xdev -type f -size -64k -not -path '*/db/*' -print0 | tar --create --null --files-from=- --file=- | "$@"`
	_, err := m.host.Run(ctx,
		host.Command{Argv: append([]string{"bash", "-o", "pipefail", "-c", pipe, "bash", m.journal.copy()}, into...),
			Mutates: true})
	return err
}

// has is whether there is such a path in a container.
func (m *mover) has(ctx context.Context, id, path string) bool {
	_, err := m.inside(id).Attach(ctx, m.host, host.Command{}, "sh", "-c", `[ -e "$1" ]`, "sh", path)
	return err == nil
}

func (m *mover) settle(ctx context.Context) error {
	if err := m.reopen(); err != nil {
		return err
	}
	all, _ := m.selected(m.old.ids())
	objects := m.unrestarted(ctx, all)
	for _, o := range all {
		if _, kept := object.Find(objects, o.Address); !kept {
			m.notes = append(m.notes, fmt.Sprintf("something of container %s waits for its next start: %s, when "+
				"it suits", o.Container, m.again("restart "+o.Container)))
		}
	}
	if err := m.release(m.old.ids()); err != nil {
		return err
	}
	return m.applyAll(ctx, objects)
}
