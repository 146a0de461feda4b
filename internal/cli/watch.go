package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/notify"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// fullRound is how often the containers are entered though nothing on the hypervisor has changed: their own daemons
// keep what is inside, and this looks after the daemons and what only the hypervisor can give.
const fullRound = 15 * time.Second

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch", Short: "keep everything true: repair what changes, when it changes",
		Long: `watch keeps the containers that are started at boot, and any other that exists, as the
configuration says, until it is told to stop. It wakes when something changes: a
container ends, a file or a mode is another, a link goes away, the configuration is
edited. Containers that were stopped or deleted with phoenix stay so. What would destroy
something is never done, and said. phoenix events tells what was done.`,
		Example: `  phoenix watch
  systemctl enable --now phoenix.service`,
		Args: nothingMore, RunE: a.command(func(ctx context.Context, _ []string) error { return a.watch(ctx) }),
	}
}

// watcher keeps a house true; its configuration is read anew before each full round. For one goroutine, but for its
// methods of a Target.
type watcher struct {
	*app
	ctx     context.Context
	mu      sync.Mutex // guards session, which is replaced while rounds go on
	session *session
	journal *engine.Journal
	blind   engine.Blindness
	trouble string   // with the configuration, as it was told last
	leaving func()   // lets go of the lock on the rounds; nil: it is not held
	ids     []string // containers to keep where they exist or are started at boot
	waits   string   // what waits for a person, as it was told last
	off     bool     // Proxmox's firewall was told to be off
	site    site     // as it was when this round began
	notify  *notifier
	alerts  *notify.Queue // what needs a person; nil: nobody is told
	self    self
	release func() // of the lock of the site's watch; nil: it is not held

	telling  sync.Mutex // guards failures: rounds go on side by side
	failures map[object.Address]failing
}

// site is what a round goes by, besides the configuration.
type site struct {
	made  bool     // there is one: somebody had a configuration applied, and did not delete it all
	marks []string // of containers that a person stopped or deleted
	told  bool     // that there is none
}

// siteKey is for the site as it was when a round began, in the context of what is done in it.
type siteKey struct{}

// supersededError is a round that was overtaken by a person's stop or delete: what it was about to do is not wanted any
// more.
type supersededError struct{ what string }

func (e *supersededError) Error() string { return "not done: " + e.what + " meanwhile" }

var _ engine.Target = (*watcher)(nil)

func (a *app) watch(ctx context.Context) error {
	a.tellLines()
	w := &watcher{app: a, ctx: ctx, failures: map[object.Address]failing{}, notify: &notifier{}}
	a.succeeds = os.Getenv(succeedsVariable)
	_ = os.Unsetenv(succeedsVariable) // the name is good
	first, err := w.open()
	if w.session = first; err != nil {
		if failed := w.lastGood(err); failed != nil {
			return failed
		}
		w.tell(err)
	}
	defer func() { w.session.close() }()
	w.journal = &engine.Journal{Path: w.session.eventsPath(), By: "watch"}
	files, err := a.readFiles() // that these are there was seen above
	if err != nil {
		return err
	}
	if w.self, err = a.ownProgram(w.session); err != nil {
		return err
	}
	w.notify = newNotifier()
	w.alerts = w.newAlerts()
	defer w.alerts.Close()
	w.begins()
	a.guard = w.superseded
	k := &engine.Keeper{
		Engine: &engine.Engine{Local: w, Notify: w.event,
			Connect: func(ctx context.Context, id string) (engine.Target, error) {
				return w.now().links.fresh(ctx, id)
			}},
		Objects: w.objects, Full: fullRound, Report: w.report, Apart: true,
		Under: func(ctx context.Context) context.Context { return context.WithValue(ctx, siteKey{}, w.site) },
	}
	for _, f := range files.list {
		if path, err := filepath.Abs(f.Name); err == nil {
			k.Also.Paths = append(k.Also.Paths, path)
		}
	}
	k.Also.Paths = append(k.Also.Paths, w.self.path, w.session.recordPath(),
		filepath.Join(w.session.machine.Root, "held"), w.session.exposedPath(w.session.authority()))
	k.Also.Polls = w.clusterPolls()
	err = k.Run(ctx)
	w.ends(err)
	if errors.Is(err, errReplaced) {
		w.alerts.Close()
		w.session.close()
		return w.execute()
	}
	return err
}

func (h *house) eventsPath() string { return filepath.Join(h.machine.Root, "events.jsonl") }

// Observe implements engine.Target.
func (w *watcher) Observe(ctx context.Context, o object.Object) (provider.Observation, error) {
	return w.now().target.Observe(ctx, o)
}

// Apply implements engine.Target.
func (w *watcher) Apply(ctx context.Context, o object.Object, c engine.Consent) (engine.Outcome, error) {
	return w.now().target.Apply(ctx, o, c)
}

// now is the session of the last full round.
func (w *watcher) now() *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.session
}

// enter keeps the pin as it is while a round that has read it is under way. Who cannot be asked to wait is not waited
// for.
func (w *watcher) enter() {
	// a lock makes its directory: not where nothing is
	if _, err := w.host.Lstat(w.session.recordPath()); w.leaving != nil || err != nil {
		return
	}
	unlock, err := engine.FileLock{Path: w.session.roundsPath(), Shared: true}.Lock(w.ctx)
	if err != nil {
		w.log.Debug("the rounds are not locked", "error", err)
		return
	}
	w.leaving = unlock
}

// reopen reads the configuration again. What cannot be used leaves the session as it is.
func (w *watcher) reopen() error {
	s, err := w.open()
	if err != nil {
		return err
	}
	if err := w.settle(s); err != nil {
		s.close()
		return err
	}
	s.cutElsewhere()
	s.cutTemplates(w.ctx)
	s.changes = true
	w.alerts.Set(s.notifySettings())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != nil {
		w.session.links.rest()
	}
	w.session = s
	return nil
}

// objects are those to keep: all of them in a full round, else those that can be looked at without entering a
// container. With a configuration that cannot be read the last good one stays. Where there is no site there is nothing
// to keep.
func (w *watcher) objects(full bool) ([]object.Object, error) {
	if full {
		if err := w.begin(); err != nil {
			return nil, err
		}
	} else {
		w.site.marks = w.session.marks(w.host.ReadDir)
	}
	if !w.site.made {
		return nil, nil
	}
	objects, _ := w.session.selected(w.wanted())
	objects = w.session.unheld(objects)
	if full {
		return objects, nil
	}
	return near(objects), nil
}

// begin reads all that a full round goes by. An error ends the watch.
func (w *watcher) begin() error {
	stay, err := w.replaced(w.ctx)
	if err != nil {
		return err
	}
	w.enter()
	if made := w.look(); made && !w.mine() || stay {
		return nil
	}
	if err = w.reopen(); err == nil && w.site.made {
		w.tellFirewall()
		err = w.ready()
	}
	w.tell(err)
	return nil
}

// mine tells whether this is the one watch of the site, and the phoenix that may keep it. Where it is not nothing is
// kept.
func (w *watcher) mine() bool {
	err := w.alone()
	if err == nil {
		var r *record
		if r, err = w.readRecord(w.session.recordPath()); err == nil {
			err = w.session.mayOverwrite(r, true)
		}
	}
	if err != nil {
		w.site.made = false
		w.tell(err)
	}
	return err == nil
}

// look finds out whether there is a site. The first one is made by a person: watch makes none, and none again.
func (w *watcher) look() bool {
	_, err := w.host.Lstat(w.session.recordPath())
	w.site.marks, w.site.made = w.session.marks(w.host.ReadDir), err == nil
	if !w.site.made {
		if w.site.made, err = w.session.adopt(w.ctx); err != nil {
			w.log.Warn("the configuration is not recorded", "error", err)
		}
	}
	if !w.site.made && w.release != nil {
		w.release() // the file went with the site
		w.release = nil
	}
	if w.site.told = w.site.told && !w.site.made; !w.site.made && !w.site.told {
		w.site.told = true
		w.view.Step(fmt.Sprintf("nothing to keep: no site was made under %s, or it was deleted; %s makes it",
			w.session.machine.Root, w.again("up")))
	}
	return w.site.made
}

// superseded is why this round may change nothing more: a person has stopped or deleted something since it began. It is
// asked while the lock is held under which things are deleted.
func (w *watcher) superseded(ctx context.Context) error {
	began, ok := ctx.Value(siteKey{}).(site)
	if !ok { // it belongs to no round
		began = w.site
	}
	s := w.now()
	for _, id := range s.marks(w.host.ReadDir) {
		if !slices.Contains(began.marks, id) {
			return &supersededError{"container " + id + " was stopped or deleted"}
		}
	}
	if _, err := w.host.Lstat(s.recordPath()); began.made && errors.Is(err, fs.ErrNotExist) {
		return &supersededError{"the site was deleted"}
	}
	return nil
}

func (w *watcher) wanted() []string {
	return slices.DeleteFunc(w.keptIDs(), w.session.held)
}

func (w *watcher) ready() error {
	_, containers := w.session.selected(w.wanted())
	return w.session.prepare(w.ctx, containers)
}

// tell says what is wrong with the configuration, once.
func (w *watcher) tell(err error) {
	now := ""
	if err != nil {
		now = err.Error()
	}
	if now != "" && now != w.trouble {
		w.view.Error(err, adviceOf(err))
	}
	if w.trouble = now; now != "" {
		w.alerts.Fail("", now, w.advice(adviceOf(err)))
	} else {
		w.alerts.Over("")
	}
}

// adviceOf is what to do about what keeps a full round from being done as the files say.
func adviceOf(err error) string {
	var known *hintError
	if errors.As(err, &known) {
		return known.hint
	}
	return "fix it: until then the last good configuration is kept"
}

func (w *watcher) report(r engine.Round) {
	if r.Full {
		w.session.links.rest() // so that the containers' daemons go on
		w.session.learnAccounts(w.ctx, r.Result.Statuses)
	}
	if r.Full && w.leaving != nil {
		w.leaving()
		w.leaving = nil
	}
	w.blind.Tell(w.log, r.Blind)
	w.forgetFailures(r)
	w.notify.progress()
	w.notify.send("STATUS=" + w.state())
}

func (w *watcher) event(ev engine.Event) {
	if w.ctx.Err() != nil && ev.Stage == engine.Failed { // told to stop
		if ev.Mutations > 0 { // no later round of this process reports what was begun
			w.record(ev)
		}
		return
	}
	var held *engine.HeldError
	var superseded *supersededError
	if ev.Stage == engine.Failed &&
		(errors.As(ev.Err, &held) || errors.As(ev.Err, &superseded) || errors.Is(ev.Err, engine.ErrLeft)) {
		return // said when it failed, or nothing to say
	}
	w.notify.progress()
	switch {
	case ev.Stage == engine.Failed && !engine.Blocked(ev.Err):
		w.failed(ev)
	case ev.Stage == engine.Changed || ev.Stage == engine.True:
		w.over(ev.Object.Address)
	}
	w.view.Event(ev)
	w.record(ev)
}

// record writes an event into the journal.
func (w *watcher) record(ev engine.Event) {
	if err := w.journal.Note(ev); err != nil {
		w.log.Warn("the event was not written down", "error", err)
	}
}

// near are the objects on the hypervisor that depend on nothing inside of a container.
func near(objects []object.Object) []object.Object {
	var out []object.Object
	in := map[object.Address]bool{}
	for _, o := range objects { // ordered: what it depends on came before
		inside := o.Host != "" || o.Address.Kind() == spec.KindBinary
		if inside || slices.ContainsFunc(o.Dependencies(), func(a object.Address) bool { return !in[a] }) {
			continue
		}
		in[o.Address] = true
		out = append(out, o)
	}
	return out
}
