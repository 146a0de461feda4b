package cli

import (
	"context"
	"encoding/json"
	"fmt"
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

func (a *app) volumesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "volumes", Short: "the volumes that phoenix made: in use, or not in the configuration any more",
		Example: `  phoenix volumes
  phoenix volumes remove 103/old --yes`,
		Args: cobra.NoArgs,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			s, err := a.enter(nil)
			if err != nil {
				return err
			}
			defer s.close()
			list, err := s.volumes(ctx)
			if err != nil {
				return err
			}
			a.view.Volumes(list)
			return nil
		}),
	}
	remove := &cobra.Command{
		Use: "remove ID/NAME...", Short: "remove volumes that are not in the configuration any more: what is on them " +
			"is lost",
		Long: `remove removes volumes by their names, as phoenix volumes lists them. One that the
configuration names is refused: phoenix delete ID --volumes. A volume on ZFS or Btrfs
is put aside; how to get it back is said.`,
		Example: "  phoenix volumes remove 103/old --yes",
		Args:    cobra.MinimumNArgs(1),
		RunE: a.command(func(ctx context.Context, names []string) error {
			s, err := a.enter(nil)
			if err != nil {
				return err
			}
			defer s.close()
			return s.removeVolumes(ctx, names)
		}),
	}
	remove.Flags().BoolVar(&a.opts.yes, "yes", false, "do not ask")
	cmd.AddCommand(remove)
	return cmd
}

// volumeName is how a volume is named to people: 103/ssl.
func volumeName(a object.Address) string { return strings.TrimPrefix(string(a), spec.KindVolume+"/") }

// volumes are all of them, those of the configuration first.
func (s *session) volumes(ctx context.Context) (out []view.KnownVolume, err error) {
	var own []object.Object
	for _, o := range s.objects {
		var v spec.Volume
		if o.Address.Kind() == spec.KindVolume && decode(o.Spec, &v) == nil && v.HostDirectory == nil {
			own = append(own, o)
		}
	}
	there := s.there(ctx, own, func(status json.RawMessage) bool { return len(status) > 0 })
	for _, o := range own {
		var v spec.Volume
		if err := decode(o.Spec, &v); err != nil {
			return nil, err
		}
		state := view.VolumeMissing
		if slices.Contains(there, o.Address) {
			state = view.VolumeInUse
		}
		out = append(out, view.KnownVolume{Name: volumeName(o.Address), State: state, Backend: o.Provider, Pool: v.Pool,
			Place: v.Path, MountPoint: v.MountPoint})
	}
	left, err := s.allLeft(ctx)
	for _, v := range left {
		out = append(out, view.KnownVolume{Name: volumeName(v.address), State: view.VolumeKept, Backend: v.provider,
			Pool: v.spec.Pool, Place: v.place})
	}
	return out, err
}

// allLeft are the volumes that the configuration does not name, on ZFS too, which is asked for them.
func (s *session) allLeft(ctx context.Context) ([]leftVolume, error) {
	left := s.left(s.house, s.objects)
	if s.machine.Proxmox != nil || !s.app.there("/dev/zfs") || !s.onPath("zfs") {
		return left, nil
	}
	res, err := s.host.Run(ctx,
		host.Command{Argv: []string{"zfs", "list", "-Hp", "-t", "filesystem", "-o",
			"name,phoenix:volume,phoenix:path"}})
	if err != nil {
		return left, err
	}
	for line := range strings.Lines(string(res.Stdout)) {
		v, ok := s.leftDataset(strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		if _, named := object.Find(s.objects, v.address); !ok || named {
			continue
		}
		// that is where it is mounted
		left = append(slices.DeleteFunc(left, func(x leftVolume) bool { return x.address == v.address }), v)
	}
	slices.SortFunc(left, func(a, b leftVolume) int { return strings.Compare(string(a.address), string(b.address)) })
	return left, nil
}

// leftDataset is a dataset that carries the mark of a volume below this root; those that were put aside are no volumes
// any more.
func (s *session) leftDataset(f []string) (leftVolume, bool) {
	if len(f) != 3 || !strings.HasPrefix(f[2], s.machine.Root+"/") {
		return leftVolume{}, false
	}
	id, name, ok := strings.Cut(f[1], "/")
	if !ok || filepath.Base(f[0]) != "phoenix-"+id+"-"+name {
		return leftVolume{}, false
	}
	return leftVolume{address: object.NewAddress(spec.KindVolume, id, name), provider: "zfs", place: "dataset " + f[0],
		spec: spec.Volume{Container: id, Name: name, Pool: filepath.Dir(f[0]), Path: f[2], MountPoint: "/" + name,
			Mode: 0o700}}, true
}

// removeVolumes removes what is named, and nothing else.
func (s *session) removeVolumes(ctx context.Context, names []string) error {
	left, err := s.allLeft(ctx)
	if err != nil {
		return err
	}
	var gone []object.Object
	var what []string
	for _, name := range names {
		address := object.Address(spec.KindVolume + "/" + strings.TrimPrefix(name, spec.KindVolume+"/"))
		i := slices.IndexFunc(left, func(v leftVolume) bool { return v.address == address })
		if _, named := object.Find(s.objects, address); named {
			return hint("take it out of the file first, or: phoenix delete "+address.Scope()+" --volumes",
				"%s is in the configuration: nothing was removed", address)
		}
		if i < 0 {
			return hint("see what there is: phoenix volumes", "there is no volume %s of phoenix's: nothing was removed",
				name)
		}
		v := left[i]
		if v.provider == "pve" {
			if err := s.detachable(ctx, &v); err != nil {
				return err
			}
		}
		raw, err := json.Marshal(v.spec)
		if err != nil {
			return err
		}
		gone = append(gone, object.Object{Address: v.address, Provider: v.provider, Spec: raw})
		what = append(what, fmt.Sprintf("%s (%s)", volumeName(v.address), v.place))
	}
	if !s.opts.yes {
		fmt.Fprintf(s.stderr, "remove %s: what is on it is lost? type yes: ", strings.Join(what, ", "))
		if err := s.await("yes", nil); err != nil {
			return err
		}
	}
	defer s.tellStop(ctx)()
	mutations, err := s.target.Remove(ctx, gone, engine.Delete)
	if err != nil {
		return err
	}
	done := view.Removed{Verb: "deleted", Mutations: mutations, Elapsed: s.elapsed()}
	for _, o := range gone {
		done.Objects = append(done.Objects, o.Address)
	}
	done.Aside = s.aside(gone, done.Objects)
	s.view.Removed(done)
	return nil
}

// detachable fails where a volume of Proxmox's cannot be removed without anything else: a container that runs has it
// mounted, or snapshots hold it, which nobody named.
func (s *session) detachable(ctx context.Context, v *leftVolume) error {
	id := v.spec.Container
	raw, err := s.host.ReadFile(filepath.Join(s.machine.Proxmox.Dir, "lxc", id+".conf"))
	if err != nil {
		return nil // there is no such container: the driver says where it is another node's
	}
	head, tail := parted(string(raw))
	for line := range strings.Lines(tail) {
		if strings.Contains(line, ": "+v.place+",") {
			return hint("pct listsnapshot "+id+" names them, pct delsnapshot removes one",
				"snapshots of container %s hold %s: nothing was removed", id, v.place)
		}
	}
	for line := range strings.Lines(head) {
		_, value, ok := strings.Cut(strings.TrimSpace(line), ": "+v.place+",")
		if !ok || !strings.HasPrefix(line, "mp") {
			continue
		}
		for part := range strings.SplitSeq(value, ",") {
			if target, ok := strings.CutPrefix(part, "mp="); ok {
				v.spec.MountPoint = target
			}
		}
		if pid, err := (provider.Inside{ID: id}).InitPID(ctx, s.host); err != nil || pid != 0 {
			return hint("phoenix stop "+id+", then again", "container %s runs and has %s mounted at %s: nothing was "+
				"removed", id, v.place, v.spec.MountPoint)
		}
	}
	return nil
}
