package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// house is a configuration on a machine: what should be, before anything was looked at or touched.
type house struct {
	cfg     *config.Config
	machine config.Machine
	objects []object.Object
	diags   diag.List
	digests *digests
	files   files // as they were read
}

// load reads the files, observes the machine and derives the objects. It changes nothing. A *diag.ListError is bad
// configuration.
func (a *app) load() (*house, error) {
	f, err := a.readFiles()
	if err != nil {
		return nil, err
	}
	return a.loadFiles(f)
}

func (a *app) loadFiles(f files) (*house, error) {
	var err error
	h := &house{files: f}
	if h.cfg, h.diags = config.Load(f.list); h.diags.HasErrors() {
		return nil, h.diags.Err()
	}
	h.digests = newDigests(a.host, cacheDirectory())
	if h.machine, err = a.observeMachine(h.cfg, f.directories, h.digests); err != nil {
		return nil, err
	}
	f.pinScripts(h.machine.Scripts)
	h.diags = config.ActedOn(h.diags, h.machine.Runtime)
	objects, diags := config.Derive(h.cfg, h.machine)
	// The objects say where the pin is, and what is pinned goes into the objects: no other root is ever made silently.
	// So do a root that takes its place, and what is known to others.
	for id, pins := range health.ReadPinFiles(a.host, objects) {
		h.machine.Pins, h.machine.MakeNext = pins, a.wish.makeNext
		if h.machine.Exposed, err = a.exposed(h, id); err != nil {
			return nil, err
		}
		objects, diags = config.Derive(h.cfg, h.machine)
	}
	if id := a.unknownRoot(h, objects); id != "" {
		h.machine.FirstRoot, h.machine.UnknownRoot = false, true
		objects, diags = config.Derive(h.cfg, h.machine)
		diags = append(diags, unknownRootWarning(h, id))
	}
	h.diags = append(append(append(h.diags, diags...), a.leftVolumes(h, objects)...), a.copies(h)...)
	h.diags = append(h.diags, a.notifyFlaw(h)...)
	if err := h.diags.Err(); err != nil {
		return nil, err
	}
	ordered, diags := plan.Order(objects)
	h.objects = ordered
	h.diags = append(h.diags, diags...)
	return h, h.diags.Err()
}

// session is a house that is entered: with the engine's parts wired to this machine.
type session struct {
	*app
	*house
	target  *engine.LocalTarget
	blobs   map[string]string // paths by SHA-256
	links   *links
	changes bool // while something may be changed, the containers' daemons rest
}

// open loads and enters the house. The caller closes it.
func (a *app) open() (*session, error) {
	h, err := a.load()
	if err != nil {
		return nil, err
	}
	return a.wire(h)
}

// wire connects the engine to this machine.
func (a *app) wire(h *house) (*session, error) {
	if os.Geteuid() != 0 {
		return nil, hint("run it again with sudo", "only root can look into containers and change them")
	}
	s := &session{app: a, house: h, blobs: map[string]string{}}
	s.blobs[h.machine.Binary.SHA256] = h.machine.Binary.Path
	for _, group := range []map[string]config.Artifact{h.machine.Artifacts, h.machine.Scripts} {
		for _, x := range group {
			if x.Path != "" {
				s.blobs[x.SHA256] = x.Path
			}
		}
	}
	a.blobs.Store(s)
	if a.local.Blob == nil {
		a.local.Blob = func(_ context.Context, sum string) (io.ReadCloser, error) { return a.blobs.Load().blob(sum) }
	}
	var watch func(string)
	if a.opts.verbose {
		watch = func(what string) { a.log.Debug("change", "what", what) }
	}
	s.target = engine.NewLocal(a.drivers, a.host, a.guarded(a.houseLock(h.machine.Root).lock), s.changing, watch)
	s.target.Patience = a.limits.Patience
	s.target.Busy = func(err error) { a.view.Event(engine.Event{Stage: engine.Waiting, Err: err}) }
	if s.links = newLinks(s.dial); a.standIn != nil {
		s.links = newLinks(func(context.Context, string) (*agent.Client, error) { return nil, engine.ErrDisconnected })
	}
	return s, nil
}

// guarded is a lock that is not given where the guard has a reason against it. The reason is asked for before, as a
// lock makes its directory, and again once the lock is held: then nobody else changes what it rests on.
func (a *app) guarded(lock func(context.Context) (func(), error)) func(context.Context) (func(), error) {
	return func(ctx context.Context) (func(), error) {
		if a.guard == nil {
			return lock(ctx)
		}
		if err := a.guard(ctx); err != nil {
			return nil, err
		}
		unlock, err := lock(ctx)
		if err != nil {
			return nil, err
		}
		if err := a.guard(ctx); err != nil {
			unlock()
			return nil, err
		}
		return unlock, nil
	}
}

// houseLock keeps other processes out while this one changes things.
func (a *app) houseLock(root string) *jointLock {
	if a.lock == nil {
		a.lock = newJointLock(filepath.Join(root, "lock"), a.limits.silence(), func(e *engine.LockedError) {
			a.view.Event(engine.Event{Stage: engine.Waiting, Err: e})
		})
	}
	return a.lock
}

// close ends the sessions in containers. What they said at their end is of interest to nobody but the log.
func (s *session) close() {
	for id, err := range s.links.close() {
		s.log.Debug("session ended", "container", id, "error", err)
	}
}

func (s *session) changing(o object.Object, d plan.Delta) {
	s.view.Event(engine.Event{Stage: engine.Changing, Object: o, Delta: d})
}

func (s *session) blob(sum string) (io.ReadCloser, error) {
	path, ok := s.blobs[sum]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: sum, Err: fs.ErrNotExist}
	}
	return host.OpenRegular(path)
}

func (s *session) engine() *engine.Engine {
	e := &engine.Engine{
		Local: s.target, Notify: s.view.Event, Consent: engine.Consent{Destroy: s.opts.yes},
		Patience: s.limits.Patience,
		Connect:  func(ctx context.Context, id string) (engine.Target, error) { return s.links.fresh(ctx, id) },
	}
	if s.standIn != nil {
		e.Connect = s.standIn.connect
	}
	return e
}

// known checks ids that were given on the command line.
func (h *house) known(ids []string) error {
	for _, id := range ids {
		if _, ok := h.cfg.Container(id); !ok {
			name, hint := id, "it has "+strings.Join(h.ids(), ", ")
			if !plainNumber.MatchString(id) {
				name = strconv.Quote(id)
			}
			if strings.ContainsAny(id, ", ;") {
				hint = "ids stand apart, each by itself: 101 102"
			}
			return &usageError{err: fmt.Errorf("container %s is not in the configuration", name), hint: hint}
		}
	}
	return nil
}

// ids are those of all containers.
func (h *house) ids() []string {
	var out []string
	for _, c := range h.cfg.Containers {
		out = append(out, c.ID)
	}
	return out
}

// atBoot are the ids of the containers that are started at boot, first to start first.
func (h *house) atBoot() []string {
	boot := slices.Clone(h.cfg.Containers)
	boot = slices.DeleteFunc(boot, func(c *config.Container) bool { return !c.StartAtBoot })
	slices.SortStableFunc(boot, func(a, b *config.Container) int { return a.BootOrder - b.BootOrder })
	var out []string
	for _, c := range boot {
		out = append(out, c.ID)
	}
	return out
}

// selected are the objects of these containers with all that they depend on, and the ids of the containers among them.
// A template is no container to people, unless it is all there is.
func (h *house) selected(ids []string) (objects []object.Object, containers []string) {
	objects = plan.Select(h.objects, ids)
	for _, kind := range []string{spec.KindContainer, spec.KindTemplate} {
		for _, o := range objects {
			if o.Address.Kind() == kind && !slices.Contains(containers, o.Container) {
				containers = append(containers, o.Container)
			}
		}
		if len(containers) > 0 {
			break
		}
	}
	return objects, containers
}

// specOf reads the spec of an object that must be there.
func specOf[S any](objects []object.Object, a object.Address) (S, bool) {
	var s S
	o, ok := object.Find(objects, a)
	if !ok || decode(o.Spec, &s) != nil {
		return s, false
	}
	return s, true
}

// prepare makes sure, before anything is changed, that all which the containers need is on this machine.
func (s *session) prepare(ctx context.Context, containers []string) error {
	if err := s.proxmoxReady(s.placed(containers)); err != nil {
		return err
	}
	if err := complete(s.cfg, s.machine, containers); err != nil {
		return err
	}
	if err := s.passable(); err != nil {
		return err
	}
	if err := s.fetchPrograms(ctx, s.cfg, s.machine, neededPrograms(s.cfg, containers)); err != nil {
		return err
	}
	if err := s.digests.save(); err != nil {
		s.log.Debug("checksums are computed anew next time", "error", err)
	}
	return nil
}

// makeTrue applies what these containers need and shows nothing yet.
func (s *session) makeTrue(ctx context.Context, ids []string) (view.Applied, error) {
	s.cutElsewhere()
	s.cutTemplates(ctx)
	objects, containers := s.selected(ids)
	if err := s.notMoving(containers); err != nil {
		return view.Applied{}, err
	}
	left, err := s.renamed(ctx, containers)
	if err != nil {
		return view.Applied{}, err
	}
	if err := s.prepare(ctx, containers); err != nil {
		return view.Applied{}, err
	}
	if err := s.removeLeft(ctx, left); err != nil {
		return view.Applied{}, err
	}
	if err := s.release(containers); err != nil {
		return view.Applied{}, err
	}
	if err := s.markFirstRoot(ctx, objects); err != nil {
		return view.Applied{}, err
	}
	return s.apply(ctx, objects, containers)
}

// apply lets the containers' daemons go on once it is done.
func (s *session) apply(ctx context.Context, objects []object.Object, containers []string) (view.Applied, error) {
	err := s.remember(ctx, containers)
	var locked *engine.LockedError
	// another is at work, and is not waited for any longer: all is left
	given := ctx.Err() != nil && errors.As(err, &locked)
	if err != nil && !given {
		return view.Applied{}, err
	}
	s.changes = true
	s.tellFilter()
	defer s.tellStop(ctx)()
	result, err := s.engine().Apply(ctx, objects)
	s.rememberAccounts(ctx, containers)
	s.close()
	s.changes = false
	done := view.Applied{Result: result, Containers: containers, Elapsed: s.elapsed()}
	if ctx.Err() != nil {
		done.Stopped = stoppedBy(ctx, result)
	}
	if given {
		done.Stopped = locked
	}
	return done, err
}

// tellStop says that it was understood when ctx is stopped while changes under way are waited for; what it returns ends
// that.
func (s *session) tellStop(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() {
		if engine.Lasting(ctx).Err() == nil {
			s.view.Event(engine.Event{Stage: engine.Stopping})
		}
	})
}

// stoppedBy is why the work ended early: where a lock was waited for, who holds it.
func stoppedBy(ctx context.Context, r engine.Result) error {
	for _, f := range r.Failures {
		var locked *engine.LockedError
		if errors.As(f.Err, &locked) {
			return locked
		}
	}
	return context.Cause(ctx)
}

// elapsed is how long the command has been at work.
func (a *app) elapsed() time.Duration { return time.Since(a.start) }

// called is how a shell finds this phoenix: by its name where PATH leads to it, else as it was called.
func called() string {
	name := filepath.Base(os.Args[0])
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && !fi.IsDir() {
			return name
		}
	}
	return os.Args[0]
}

// again is a phoenix command on the same configuration, ready to paste.
func (a *app) again(command string) string {
	argv := []string{called()}
	for _, c := range a.opts.config {
		argv = append(argv, "--config", c)
	}
	if a.opts.root != defaultRoot {
		argv = append(argv, "--root", a.opts.root)
	}
	if a.opts.runtime != "" && a.opts.runtime != "auto" {
		argv = append(argv, "--runtime", a.opts.runtime)
	}
	return host.Quote(argv) + " " + command
}

// passable fails where a directory above the root shuts out the containers' own users, who are nobody outside.
func (s *session) passable() error {
	for dir := filepath.Dir(s.machine.Root); ; dir = filepath.Dir(dir) {
		if m, err := s.host.Lstat(dir); err == nil && m.Mode.IsDir() && m.Mode&0o001 == 0 {
			return hint("choose another --root, or: chmod o+x "+host.Quote([]string{dir}),
				"the users of containers cannot pass %s (mode %04o), which --root %s is in", dir, m.Mode.Perm(),
				s.machine.Root)
		}
		if dir == "/" {
			return nil
		}
	}
}

// leave ends the sessions in containers, so that their daemons go on.
func (s *session) leave() {
	s.close()
	s.changes = false
}
