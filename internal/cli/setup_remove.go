package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// undo is one thing that setup made, and how it goes.
type undo struct {
	address object.Address
	remove  func(context.Context, host.Host) error
}

// unsetting is what of setup is there, in the order in which it goes: first what would bring the rest back.
type unsetting struct {
	*session
	setup  *house // what setup derives
	record setupRecord
	undos  []undo
	notes  []string
}

// setupRemove undoes what setup did. Without --yes it only says so.
func (a *app) setupRemove(ctx context.Context) error {
	setup, err := a.loadSetup()
	if err != nil {
		return err
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	u := &unsetting{session: s, setup: setup}
	if u.record, err = readSetupRecord(s.host, setupRecordFile); err != nil {
		return err
	}
	if err := u.unused(ctx); err != nil {
		return err
	}
	for _, look := range []func(context.Context) error{u.unit, u.network, u.files, u.ranges, u.program} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	done := view.Removed{Verb: "removed", Objects: []object.Address{}}
	for _, x := range u.undos {
		done.Objects = append(done.Objects, x.address)
	}
	counted := host.NewCounted(s.host, nil)
	if !a.opts.yes {
		done.Verb = "removable"
		u.notes = append(u.notes, "nothing was removed; "+s.again("setup --remove")+" --yes does it")
	} else if err := u.apply(ctx, counted); err != nil {
		return err
	}
	done.Notes, done.Mutations, done.Elapsed = append(u.notes, u.left()...), counted.Mutations(), s.elapsed()
	a.view.Removed(done)
	return nil
}

func (u *unsetting) apply(ctx context.Context, h host.Host) error {
	if u.app.there(u.machine.Root) { // else the lock would make it
		unlock, err := u.houseLock(u.machine.Root).lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	for _, x := range u.undos {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := x.remove(engine.Lasting(ctx), h); err != nil {
			return fmt.Errorf("%s: %w", x.address, err)
		}
	}
	return nil
}

// unused refuses while the site's containers are there: they need what would go.
func (u *unsetting) unused(ctx context.Context) error {
	var names []string
	for _, o := range u.objects {
		if o.Address.Kind() != spec.KindContainer && o.Address.Kind() != spec.KindTemplate {
			continue
		}
		there, err := u.exists(ctx, o)
		if err != nil {
			return fmt.Errorf("%s cannot be looked at, so nothing was removed: %w", o.Address, err)
		}
		if there {
			names = append(names, string(o.Address))
		}
	}
	if len(names) > 0 {
		return hint(u.again("delete --all")+" first: it keeps the volumes, unless --volumes is there too",
			"what setup made is still needed by %s: nothing was removed", strings.Join(names, ", "))
	}
	seen := u.watchSeen()
	if seen.PID != 0 && seen.Unit == "" {
		return hint(fmt.Sprintf("end what starts it, then it: kill %d", seen.PID),
			"phoenix watch keeps this site (pid %d), and no unit of systemd runs it: nothing was removed", seen.PID)
	}
	return nil
}

// exists is false, too, where the program that would know is not installed.
func (u *unsetting) exists(ctx context.Context, o object.Object) (bool, error) {
	obs, err := u.target.Observe(ctx, o)
	if host.Missing(err) {
		return false, nil
	}
	return len(obs.Status) > 0, err
}

// unit is phoenix watch, which would make the rest again.
func (u *unsetting) unit(context.Context) error {
	path := "/etc/systemd/system/" + config.WatchUnit
	switch _, err := u.host.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case u.watchSeen().Unit == "":
		u.notes = append(u.notes, path+" runs phoenix for another --root: it stays, and so does the program")
		u.record.Program = ""
		return nil
	}
	u.undos = append(u.undos, undo{object.NewAddress(spec.KindUnit, "hypervisor", config.WatchUnit),
		func(ctx context.Context, h host.Host) error {
			if u.systemd() {
				if _, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "disable", "--now", config.WatchUnit},
					Mutates: true}); err != nil {
					return err
				}
			}
			if err := h.Remove(path); err != nil || !u.systemd() {
				return err
			}
			_, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "daemon-reload"}, Mutates: true})
			return err
		}})
	return nil
}

func (u *unsetting) systemd() bool { return u.app.there("/run/systemd/system") }

// network is what phoenix keeps of the bridge, and the bridge if phoenix made it and nobody is plugged into it.
func (u *unsetting) network(ctx context.Context) error {
	for _, kind := range []string{spec.KindAccess, spec.KindHostFirewall, spec.KindDNS, spec.KindNetwork} {
		for _, o := range u.objects {
			if o.Address.Kind() != kind {
				continue
			}
			if there, err := u.exists(ctx, o); err != nil {
				return err
			} else if !there {
				continue
			}
			if kind == spec.KindNetwork {
				var s spec.Network
				ports, _ := u.host.ReadDir(filepath.Join("/sys/class/net", o.Address.Scope(),
					"brif")) // without a bridge there are none
				if len(ports) > 0 || decode(o.Spec, &s) != nil {
					u.notes = append(u.notes, "bridge "+o.Address.Scope()+" stays: "+strings.Join(ports,
						", ")+" is plugged into it")
					continue
				}
			}
			d, err := u.drivers.Find(o)
			if err != nil {
				return err
			}
			u.undos = append(u.undos, undo{o.Address, func(ctx context.Context,
				h host.Host) error {
				return engine.Delete(ctx, d, h, o)
			}})
		}
	}
	return nil
}

// files are those of the setup's own names with the setup's own content.
func (u *unsetting) files(context.Context) error {
	for _, o := range u.setup.objects {
		path := ""
		switch o.Address.Kind() {
		case spec.KindSysctl:
			var s spec.Sysctl
			if decode(o.Spec, &s) == nil {
				path = s.Path
			}
		case spec.KindFile:
			var f spec.File
			if decode(o.Spec, &f) == nil && f.Content != "" {
				raw, err := u.host.ReadFile(f.Path)
				if err == nil && string(raw) == f.Content {
					path = f.Path
				} else if err == nil {
					u.notes = append(u.notes, f.Path+" was edited: it stays")
				}
			}
		}
		if _, err := u.host.Lstat(path); path == "" || errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		u.undos = append(u.undos, undo{o.Address, func(_ context.Context, h host.Host) error { return h.Remove(path) }})
		if o.Address.Kind() == spec.KindSysctl {
			u.notes = append(u.notes, "the limits that run stay raised until the next boot")
		}
	}
	return nil
}

// ranges are the lines that setup wrote into subuid and subgid, unless containers of others have ids of them by now.
func (u *unsetting) ranges(context.Context) error {
	for _, file := range subIDFiles {
		lines := u.record.Lines[file]
		raw, err := u.host.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || len(lines) == 0 {
			continue
		}
		if err != nil {
			return err
		}
		if u.others(lines) {
			u.notes = append(u.notes, fmt.Sprintf("%s keeps %s: other containers of this machine may have these ids",
				file, strings.Join(lines, ", ")))
			continue
		}
		if withoutLines(string(raw), lines) == string(raw) {
			continue
		}
		u.undos = append(u.undos, undo{object.Address("file/hypervisor" + file), func(_ context.Context,
			h host.Host) error {
			now, err := h.ReadFile(file)
			if err != nil {
				return err
			}
			return h.WriteFile(file, []byte(withoutLines(string(now), lines)), 0o644, host.Root)
		}})
	}
	return nil
}

// others is whether containers that are not this site's have ids of the lines' ranges. The user namespace that this
// machine itself may be in is none of those.
func (u *unsetting) others(lines []string) bool {
	raw, _ := u.host.ReadFile("/proc/self/uid_map") // without one there are no namespaces of users
	own := idrange.Kernel(string(raw))
	return slices.ContainsFunc(lines, func(line string) bool {
		var m spec.IDMap
		if _, err := fmt.Sscanf(line, "root:%d:%d", &m.Base, &m.Count); err != nil {
			return true
		}
		return slices.ContainsFunc(u.machine.IDs.Taken, func(r spec.IDMap) bool {
			return !slices.Contains(own, r) && r.Base < m.Base+m.Count && m.Base < r.Base+r.Count
		})
	})
}

// program is phoenix where setup put it, and what setup remembers; both go last.
func (u *unsetting) program(context.Context) error {
	if path := u.record.Program; path != "" && u.app.there(path) {
		u.undos = append(u.undos, undo{object.NewAddress(spec.KindFile, "hypervisor"+path), func(_ context.Context,
			h host.Host) error {
			return h.Remove(path)
		}})
	}
	if u.app.there(setupRecordFile) && !slices.ContainsFunc(u.notes, func(n string) bool {
		return strings.Contains(n, " keeps root:") || strings.Contains(n, "another --root")
	}) {
		u.undos = append(u.undos, undo{object.NewAddress(spec.KindFile, "hypervisor"+setupRecordFile),
			func(_ context.Context, h host.Host) error { return h.Remove(setupRecordFile) }})
	}
	return nil
}

// left is what stays, and how it goes by hand.
func (u *unsetting) left() (out []string) {
	for _, o := range u.setup.objects {
		var p spec.Package
		switch o.Address.Kind() {
		case spec.KindPackage:
			if decode(o.Spec, &p) == nil {
				out = append(out, "packages stay, others may need them: "+strings.Join(p.Names, " "))
			}
		case spec.KindStorage:
			out = append(out, "storage "+o.Address.Scope()+" stays, with what is on it: pvesm remove "+
				""+o.Address.Scope())
		}
	}
	if u.app.there(u.machine.Root) {
		out = append(out, u.machine.Root+" stays, with the volumes: rm -r "+u.machine.Root+" destroys them and the "+
			"root of the site")
	}
	for _, f := range u.machine.Directories {
		out = append(out, "the configuration stays: "+f)
	}
	return out
}
