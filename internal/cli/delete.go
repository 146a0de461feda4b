package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func (a *app) deleteCommand() *cobra.Command {
	var named string
	var all bool
	cmd := &cobra.Command{
		Use: "delete ID...", Short: "remove containers; their volumes stay unless --volumes",
		Long: `delete removes containers. Their volumes stay, and a create afterwards finds them: the
same certificate authority, the same keys. --volumes removes these too. The volume of a
CA holds the root of the site, and its pinned fingerprint goes with it: every client must
then trust a new one. So it is asked for by its container's name, and with --yes it has
to be named: --volumes=103. phoenix watch brings back nothing that was deleted. A volume on ZFS
or Btrfs is put aside, until it is deleted again; how to get it back is said. --all
removes everything that phoenix made for this configuration: the bridge, the resolver
and the templates too and, with --volumes, the root directory, what was put aside and what
migrate --live kept: its copy of the old directory is written over, that one stays.`,
		Example: `  phoenix delete 102
  phoenix delete 101 --volumes --yes
  phoenix delete --all --volumes=103 --yes`,
		ValidArgsFunction: a.completeIDs,
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("delete takes the ids of containers, or --all")
			}
			return nil
		},
	}
	cmd.RunE = a.command(func(ctx context.Context, ids []string) error {
		volumes, roots, err := volumesFlag(named)
		if err != nil {
			return err
		}
		a.opts.trust = all // a root that was put into the hypervisor's own store goes too
		s, err := a.enter(ids)
		if err != nil {
			return err
		}
		defer s.close()
		return s.remove(ctx, deletion{ids: ids, all: all, volumes: volumes, roots: roots})
	})
	f := cmd.Flags()
	f.StringVar(&named, "volumes", "", "remove their volumes too: what is on them is lost; `ID` names the container "+
		"of a CA whose root is to go")
	f.Lookup("volumes").NoOptDefVal = "true"
	f.BoolVar(&all, "all", false, "everything that phoenix made for this configuration")
	f.BoolVar(&a.opts.yes, "yes", false, "do not ask")
	return cmd
}

// deletion is what a person wants deleted.
type deletion struct {
	ids     []string
	all     bool
	volumes bool
	roots   []string // containers of CAs that were named: their root may go too
}

// volumesFlag reads --volumes, --volumes=true or false, and --volumes=ID[,ID].
func volumesFlag(value string) (volumes bool, roots []string, err error) {
	switch value {
	case "", "false":
		return false, nil, nil
	case "true":
		return true, nil, nil
	}
	roots = strings.Split(value, ",")
	for _, id := range roots {
		if !plainNumber.MatchString(id) {
			return false, nil, &usageError{err: fmt.Errorf("--volumes=%s names no container", value),
				hint: "--volumes, or with the id of the CA's container, such as --volumes=103"}
		}
	}
	return true, roots, nil
}

// remove deletes the objects on the hypervisor; what is inside of a container goes with it.
func (s *session) remove(ctx context.Context, want deletion) error {
	ids, all, volumes := want.ids, want.all, want.volumes
	if err := s.proxmoxReady(s.deletable(ids, all)); err != nil {
		return err
	}
	if err := s.notMoving(s.deletable(ids, all)); err != nil {
		return err
	}
	gone, kept := s.doomed(ctx, ids, all, volumes)
	if err := s.refused(ctx, gone); err != nil {
		return err
	}
	if err := s.confirm(ctx, want, kept); err != nil {
		return err
	}
	if err := s.staysDeleted(ids, all); err != nil {
		return err
	}
	elsewhere, _ := s.elsewhere(ids)
	there := s.there(ctx, gone, func(status json.RawMessage) bool { return len(status) > 0 })
	// What is not there is deleted too: a delete that was killed may have left parts.
	defer s.tellStop(ctx)()
	power := engine.Delete
	if all {
		power = forGood
	}
	mutations, err := s.target.Remove(ctx, engine.Among(gone), power)
	if err == nil && volumes {
		err = s.forgetExposed(s.deletable(ids, all))
	}
	var notes []string
	if err == nil && all {
		var more int
		notes, more, err = s.removeRest(ctx, volumes)
		mutations += more
	}
	if err != nil {
		return err
	}
	done := view.Removed{Verb: "deleted", Objects: there, Mutations: mutations, Elapsed: s.elapsed(), Notes: notes}
	for _, o := range kept {
		done.Kept = append(done.Kept, o.Address)
	}
	if !all {
		done.Aside, done.Notes = s.aside(gone, there), s.anew(elsewhere)
	}
	s.view.Removed(done)
	return nil
}

// staysDeleted has watch bring nothing of it back, from before the first thing is removed.
func (s *session) staysDeleted(ids []string, all bool) error {
	if all {
		return s.forgetSite()
	}
	return s.hold(ids, heldDeleted)
}

// refused says what would be lost though nobody named it, before anything is touched.
func (s *session) refused(ctx context.Context, gone []object.Object) error {
	var errs []error
	for _, o := range gone {
		if d, err := s.drivers.Find(o); err == nil {
			errs = append(errs, provider.Refused(ctx, d, s.host, o))
		}
	}
	return hinting(errors.Join(errs...))
}

// forGood deletes an object and what was put aside of it before.
func forGood(ctx context.Context, d provider.Erased, h host.Host, o object.Object) error {
	if err := engine.Delete(ctx, d, h, o); err != nil {
		return err
	}
	return provider.Forget(ctx, d, h, o)
}

// aside are those of the deleted objects that can be brought back.
func (s *session) aside(gone []object.Object, there []object.Address) (out []view.Aside) {
	for _, o := range gone {
		d, err := s.drivers.Find(o)
		if err != nil || !slices.Contains(there, o.Address) {
			continue
		}
		if kept, ok := provider.KeptBy(d, o); ok {
			out = append(out, view.Aside{Address: o.Address, Place: kept.Place, Restore: kept.Restore,
				Remove: kept.Remove})
		}
	}
	return out
}

// doomed splits the objects on the hypervisor that a delete is about into those that go and the data that stays.
func (s *session) doomed(ctx context.Context, ids []string, all, volumes bool) (gone, kept []object.Object) {
	for _, o := range s.objects {
		if o.Host != "" || !all && !slices.Contains(ids, o.Container) {
			continue
		}
		switch o.Address.Kind() {
		case spec.KindSubID, spec.KindSysctl: // the machine's: others may live in the range
			continue
		// as long as there are files of the range, and in directories of the users' there may always be some
		case spec.KindIDs:
			var r spec.IDRange
			if !volumes || decode(o.Spec, &r) != nil || len(r.Binds) > 0 {
				continue
			}
		case spec.KindVolume, spec.KindPin:
			if !volumes || usersOwn(o) {
				kept = append(kept, o)
				continue
			}
		case spec.KindNetwork, spec.KindDNS, spec.KindHostFirewall, spec.KindAccess:
			if s.foreignPort(o.Address.Scope()) != "" { // another root's containers are plugged in
				kept = append(kept, o)
				continue
			}
		case spec.KindHostTrust:
			if !s.trusted(ctx, o) {
				continue
			}
		}
		gone = append(gone, o)
	}
	return gone, kept
}

// usersOwn tells whether a volume is a directory that the file names by its path: it was there before phoenix, and
// stays.
func usersOwn(o object.Object) bool {
	var v spec.Volume
	return o.Address.Kind() == spec.KindVolume && decode(o.Spec, &v) == nil && v.HostDirectory != nil
}

// trusted tells whether the hypervisor's own store holds the root that is pinned here. Another one is another
// phoenix's.
func (s *session) trusted(ctx context.Context, o object.Object) bool {
	fingerprint, ok := pinned(s.app, s.objects, o.Container)
	obs, err := s.target.Observe(ctx, o)
	var seen struct {
		Fingerprints []string `json:"fingerprints"`
	}
	return ok && err == nil && json.Unmarshal(obs.Status, &seen) == nil &&
		slices.Contains(seen.Fingerprints, fingerprint)
}

// rootParts are the directories below the root that phoenix makes.
var rootParts = []string{"lxc", "templates", "volumes", "dns", "pins", "exposed"}

// forgetExposed forgets what became known to others of CAs that are gone.
func (s *session) forgetExposed(ids []string) error {
	for _, id := range ids {
		path := s.exposedPath(id)
		if _, err := s.host.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := s.host.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// removeRest removes what is no object's: links to containers, what a migration kept, and phoenix's own directory.
func (s *session) removeRest(ctx context.Context, volumes bool) (notes []string, mutations int, err error) {
	if mutations, err = s.unlink(); err != nil {
		return nil, mutations, err
	}
	if j := journalIn(s.host, s.machine.Root); volumes {
		n := 0
		if notes, n, err = s.forgetMigration(ctx); err != nil {
			return nil, mutations + n, err
		}
		mutations += n
	} else if j.there(j.dir) {
		notes = []string{"what migrate --live kept stays in " + j.dir + "; with --volumes it goes too"}
	}
	n, err := s.removeRoot(volumes)
	return notes, mutations + n, err
}

// removeRoot removes what is left of phoenix's own directory once its objects are gone: empty directories and the lock.
// Anything else that lies in it is somebody's, and is named.
func (s *session) removeRoot(volumes bool) (mutations int, err error) {
	root := s.machine.Root
	if _, err := s.host.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var left []string
	for _, part := range rootParts {
		n, l := s.removeEmpty(filepath.Join(root, part))
		mutations += n
		left = append(left, l...)
	}
	if !volumes {
		return mutations, nil
	}
	if len(left) > 0 {
		return mutations, hint("it belongs to no object of this configuration: look at it and remove it by hand",
			"left in %s: %s", root, strings.Join(left, ", "))
	}
	if err := s.release(s.marks(s.host.ReadDir)); err != nil {
		return mutations, err
	}
	for _, name := range []string{filepath.Base(s.eventsPath()), filepath.Base(s.eventsPath()) + ".1", "held", "lock",
		filepath.Base(s.watchPath()), filepath.Base(s.recordPath()), filepath.Base(s.roundsPath()),
		filepath.Base(s.poolsPath()), filepath.Base(s.accountsPath()), filepath.Base(s.accountsPath()) + lockSuffix} {
		if err := s.host.Remove(filepath.Join(root, name)); err != nil {
			return mutations, err
		}
	}
	n, left := s.removeEmpty(root)
	if len(left) > 0 {
		return mutations + n, hint("look at it and remove it by hand", "left in %s: %s", root, strings.Join(left, ", "))
	}
	return mutations + n, nil
}

// removeEmpty removes a directory if it and all directories in it are empty; left names what is in the way.
func (s *session) removeEmpty(dir string) (mutations int, left []string) {
	names, err := s.host.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, []string{dir}
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if m, err := s.host.Lstat(path); err != nil || !m.Mode.IsDir() {
			left = append(left, path)
			continue
		}
		n, l := s.removeEmpty(path)
		mutations += n
		left = append(left, l...)
	}
	if len(left) > 0 {
		return mutations, left
	}
	if err := s.host.Remove(dir); err != nil {
		return mutations, []string{dir}
	}
	return mutations + 1, nil
}
