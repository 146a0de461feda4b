package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// liveOptions are the flags of migrate --live.
type liveOptions struct {
	live, rollback, shred bool
	newRoot               bool // the root, too
	from                  string
}

// mover moves a running system from the shared directory to own volumes. Each step looks whether it is done; a run that
// is killed anywhere is gone on with by the next.
type mover struct {
	*session
	old     *oldHouse
	journal journal
	files   files            // of the configuration, as they are
	mig     config.Migration // of these
	newRoot bool             // wanted
	notes   []string
}

// step is one on the way. do is repeatable.
type step struct {
	name, what string
	done       func(context.Context) (bool, error)
	do         func(context.Context) error
}

func (a *app) migrateLive(ctx context.Context, o liveOptions) error {
	if os.Geteuid() != 0 {
		return hint("run it again with sudo", "only root can look into containers and change them")
	}
	if o.from != "" {
		if !filepath.IsAbs(o.from) {
			return &usageError{err: fmt.Errorf("--from %s is not an absolute path", o.from),
				hint: "the lxcpath of the old containers, such as /var/lib/lxc"}
		}
		o.from = followed(filepath.Clean(o.from))
	}
	root, err := a.rootDirectory()
	if err != nil {
		return err
	}
	if from := journalIn(a.host, root).from(); o.from == "" {
		o.from = from
	}
	a.moving = &moving{from: o.from}
	m, err := a.newMover()
	if err != nil {
		return err
	}
	defer func() { m.close() }()
	m.newRoot = o.newRoot
	if a.opts.yes {
		unlock, err := a.houseLock(m.machine.Root).lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	switch {
	case o.rollback:
		return m.rollback(ctx)
	case o.shred:
		return m.shred(ctx)
	}
	return m.move(ctx)
}

// newMover reads the configuration, as migrate would write it, and looks for the old layout.
func (a *app) newMover() (*mover, error) {
	f, err := a.readFiles()
	if err != nil {
		return nil, err
	}
	m := &mover{files: f, mig: config.Migrate(f.list)}
	next := files{directories: f.directories}
	for _, x := range m.mig.Files {
		next.list = append(next.list, config.File{Name: x.Name, Data: x.New})
	}
	h, err := a.loadFiles(next)
	if err != nil {
		return nil, err
	}
	if m.session, err = a.wire(h); err != nil {
		return nil, err
	}
	m.journal = journalIn(a.host, h.machine.Root)
	if m.old, err = a.findOld(h.cfg, h.machine, m.journal); err != nil {
		return nil, err
	}
	return m, nil
}

// reopen is the house with what was written meanwhile: the pin, the configuration, the leaked keys.
func (m *mover) reopen() error {
	m.close()
	next, err := m.app.newMover()
	if err == nil {
		m.session, m.files, m.mig = next.session, next.files, next.mig
	}
	return err
}

func (m *mover) move(ctx context.Context) error {
	switch {
	case m.journal.there(m.journal.shredded()):
		m.view.Moved(view.Moved{Done: true, Made: m.opts.yes,
			Notes: []string{"the old directory was emptied: the migration is over"}})
		return nil
	case m.old.ca == "" || len(m.old.guests) == 0:
		return hint("--from LXCPATH says where they are", "no old container of the CA was found: %s is not in %v",
			m.caID(), append(m.oldPlaces(), filepath.Join(m.machine.Root, "lxc")))
	}
	if err := m.suitable(); err != nil {
		return err
	}
	steps := append(m.closing(), m.moving()...)
	if m.newRoot {
		steps = append(steps, step{"new root", "another root takes the place of the one whose key leaked: everyone " +
			"trusts both before the old one goes",
			func(context.Context) (bool, error) { return m.rootReplaced() }, m.replaceOldRoot})
	}
	out := view.Moved{Made: m.opts.yes, Notes: m.notes}
	if !m.opts.yes {
		return m.preview(ctx, steps, out)
	}
	if err := m.prepare(ctx, m.old.ids()); err != nil {
		return err
	}
	if err := m.run(ctx, steps); err != nil {
		return err
	}
	return m.conclude(ctx, steps, out)
}

func (m *mover) caID() string {
	for _, c := range m.cfg.Containers {
		if c.IsCA() {
			return "container " + c.ID
		}
	}
	return "the CA's container"
}

// suitable fails, before anything is touched, where a container cannot be kept.
func (m *mover) suitable() error {
	var errs []error
	for _, g := range m.old.guests {
		want, ok := specOf[spec.Container](m.objects, object.NewAddress(spec.KindContainer, g.id))
		if ok {
			errs = append(errs, g.suits(want))
		}
	}
	return errors.Join(errs...)
}

func (m *mover) preview(ctx context.Context, steps []step, out view.Moved) error {
	out.Done = true
	for _, s := range steps {
		done, err := s.done(ctx)
		if err != nil {
			m.log.Debug("not known yet", "step", s.name, "error", err)
		}
		out.Steps = append(out.Steps, view.Step{Name: s.name, What: s.what, Done: done && err == nil})
		out.Done = out.Done && done
	}
	var err error
	if out.Leaked, err = m.leaks(out.Done && !m.newRoot); err != nil {
		return err
	}
	if !out.Done {
		out.Next = []string{m.again("migrate --live --yes" + m.fromFlag() +
			map[bool]string{true: " --new-root"}[m.newRoot])}
	}
	m.view.Moved(out)
	return nil
}

func (a *app) fromFlag() string {
	if a.moving.from == "" {
		return ""
	}
	return " --from " + a.moving.from
}

func (m *mover) run(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		done, err := s.done(ctx)
		if err == nil && done {
			continue
		}
		m.view.Step(s.name + ": " + s.what)
		if err := s.do(ctx); err != nil {
			return hint(m.again("migrate --live --yes"+m.fromFlag())+
				" goes on from there; --rollback instead goes back", "%s: %w", s.name, err)
		}
	}
	return nil
}

// conclude is the health check, and what is left for a person.
func (m *mover) conclude(ctx context.Context, steps []step, out view.Moved) error {
	report := m.healthy(ctx)
	out.Health, out.Done = &report, report.Healthy
	for _, s := range steps {
		out.Steps = append(out.Steps, view.Step{Name: s.name, What: s.what, Done: true})
	}
	var err error
	if out.Leaked, err = m.leaks(report.Healthy); err != nil {
		return err
	}
	out.Notes, out.Elapsed = m.notes, m.elapsed()
	if report.Healthy {
		out.Next = []string{m.again("migrate --live --shred --yes") + "    # empties " + m.old.shared +
			"; then there is no way back",
			m.again("migrate --live --rollback --yes") + "    # the way back, while that directory exists"}
	}
	m.view.Moved(out)
	if !report.Healthy {
		return codeError(exitUnhealthy)
	}
	return nil
}

// healthy looks until all is well, or for as long as daemons may take to settle.
func (m *mover) healthy(ctx context.Context) health.Report {
	objects, _ := m.selected(m.old.ids())
	end := time.Now().Add(m.limits.settle())
	for {
		report := m.checkPatiently(ctx, objects)
		if report.Healthy || ctx.Err() != nil || time.Now().After(end) {
			return report
		}
		m.leave()
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// apply makes objects true, whatever else is not.
func (m *mover) applyAll(ctx context.Context, objects []object.Object) error {
	pins := health.ReadPins(m.host, m.objects)
	list := make([]object.Object, 0, len(objects))
	for _, o := range objects {
		list = append(list, withPins(o, pins))
	}
	m.changes = true
	result, err := m.engine().Apply(ctx, engine.Among(list))
	m.leave()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return errors.Join(err, result.Err())
}

// pending is whether any of the objects differs.
func (m *mover) pending(ctx context.Context, objects []object.Object) (bool, error) {
	pins := health.ReadPins(m.host, m.objects)
	list := make([]object.Object, 0, len(objects))
	for _, o := range objects {
		list = append(list, withPins(o, pins))
	}
	result, err := m.engine().Plan(ctx, engine.Among(list))
	m.leave()
	return len(result.Plan.Changes) > 0, errors.Join(err, result.Err())
}

// where picks objects.
func (m *mover) where(is func(object.Object) bool) []object.Object {
	return slices.DeleteFunc(slices.Clone(m.objects), func(o object.Object) bool { return !is(o) })
}
