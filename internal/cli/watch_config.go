package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// loadRevision is the house of a configuration that was applied, on the machine as it is now.
func (a *app) loadRevision(r applied) (*house, error) {
	f := files{directories: r.Directories, scripts: r.Scripts}
	if f.scripts == nil {
		f.scripts = map[string]string{}
	}
	for _, x := range r.Files {
		f.list = append(f.list, config.File{Name: x.Name, Data: []byte(x.Text)})
	}
	return a.loadFiles(f)
}

// difference is what the files ask for otherwise than the configuration that was applied.
type difference struct {
	objects []object.Object // what may be kept without a person
	waiting []config.Waiting
	ids     []string // containers that a person had applied, and those that were added to the files since
	pending bool     // the record does not name the files' revision everywhere
	houses  map[string]*house
}

// compare holds the files against the record.
func (s *session) compare(r *record, mode string) (difference, error) {
	key, _ := s.revision(s.version, s.host.Now())
	d := difference{objects: s.objects, houses: map[string]*house{key: s.house}, pending: r.Site != key}
	for _, k := range slices.Sorted(maps.Keys(r.Revisions)) {
		if d.houses[k] != nil {
			continue
		}
		h, err := s.loadRevision(r.Revisions[k])
		if err != nil {
			return d, hint("correct the files and apply them: "+s.again("apply"),
				"the configuration that was applied at %s cannot be used any more: %w", r.Revisions[k].Time, err)
		}
		d.houses[k] = h
	}
	d.ids = s.asked(r, d.houses[r.Site])
	for id, k := range r.Containers {
		_, known := s.cfg.Container(id)
		d.pending = d.pending || !known || k != key
	}
	if !d.pending || mode == config.ApplyAll {
		return d, nil
	}
	merged, waiting := config.Unattended(r.applied(d.houses), s.objects, mode == config.ApplySafe)
	ordered, diags := plan.Order(engine.Among(merged))
	if diags.HasErrors() {
		return d, diags.Err()
	}
	d.objects, d.waiting = ordered, waiting
	return d, nil
}

// asked are the containers that a person had applied, and those that were added to the files since. One that stood in
// the file when another was applied, and was not asked for, is not made by itself.
func (s *session) asked(r *record, site *house) (ids []string) {
	for _, id := range s.ids() {
		_, applied := r.Containers[id]
		known := false
		if site != nil {
			_, known = site.cfg.Container(id)
		}
		if applied || !known {
			ids = append(ids, id)
		}
	}
	for id := range r.Containers {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// applied are the objects as they were applied: each container's by its own revision, what belongs to none by the
// site's.
func (r *record) applied(houses map[string]*house) (out []object.Object) {
	for _, key := range slices.Sorted(maps.Keys(houses)) {
		for _, o := range houses[key].objects {
			owner, recorded := r.Containers[o.Container]
			if o.Container == "" {
				owner, recorded = r.Site, true
			}
			if recorded && owner == key {
				out = append(out, o)
			}
		}
	}
	return out
}

// waiting is what of the files waits for phoenix apply; none where nothing was ever recorded.
func (s *session) waiting() (out []view.Waiting, err error) {
	r, err := s.readRecord(s.recordPath())
	if err != nil || r == nil {
		return nil, err
	}
	d, err := s.compare(r, s.applyMode())
	for _, w := range d.waiting {
		out = append(out, view.Waiting{Object: w.Address, Container: w.Container, Reason: w.Reason})
	}
	return out, err
}

func (h *house) applyMode() string {
	if mode := h.cfg.Hypervisor.Watch.Apply; mode != "" {
		return mode
	}
	return config.ApplySafe
}

// settle has a session ask for what may be kept without a person.
func (w *watcher) settle(s *session) error {
	r, err := w.readRecord(s.recordPath())
	if err != nil || r == nil {
		return err
	}
	d, err := s.compare(r, s.applyMode())
	if err != nil {
		return err
	}
	s.objects = d.objects
	for _, h := range d.houses {
		for _, x := range h.machine.Artifacts {
			s.blobs[x.SHA256] = x.Path
		}
	}
	if err := s.mayOverwrite(r, true); err != nil {
		return err
	}
	if r.Program != s.program() {
		if err := s.rememberProgram(w.ctx); err != nil {
			return err
		}
	}
	w.ids = d.ids
	w.tellWaiting(s, d.waiting)
	if d.pending && len(d.waiting) == 0 {
		return s.remember(w.ctx,
			slices.DeleteFunc(slices.Clone(d.ids), func(id string) bool { return s.known([]string{id}) != nil }))
	}
	return nil
}

// tellWaiting says, once for each change of the files, what waits for a person.
func (w *watcher) tellWaiting(s *session, list []config.Waiting) {
	journal := &engine.Journal{Path: s.eventsPath(), By: "watch"}
	now := fmt.Sprint(list)
	if now == w.waits || len(list) == 0 && w.waits == "" {
		w.waits = now
		return
	}
	w.waits = now
	if len(list) == 0 {
		w.waits = ""
		w.alerts.Waits("", "")
		w.view.Step("nothing of the configuration waits any more")
		return
	}
	var lines []string
	for _, x := range list {
		lines = append(lines, fmt.Sprintf("%s (%s)", x.Address, x.Reason))
		entry := engine.Entry{Object: x.Address, Action: plan.Update, Reason: "waits for phoenix apply: " + x.Reason}
		if err := journal.Write(entry); err != nil {
			w.log.Warn("the event was not written down", "error", err)
		}
	}
	w.alerts.Waits(fmt.Sprintf("%d of its changes might interrupt, close or remove something: %s", len(list),
		short(lines)), "look: "+w.again("plan")+"; have it: "+w.again("apply")+"; go back: "+w.again("revert"))
	w.view.Step(fmt.Sprintf("the configuration was changed; %d of the changes wait for a person, as they might "+
		"interrupt, close or remove something: %s\n"+
		"  look: %s    go back: %s    have it: %s", len(list), short(lines), w.again("plan"), w.again("revert"),
		w.again("apply")))
}

// short is the first of many.
func short(lines []string) string {
	const most = 8
	out, more := "", ""
	if len(lines) > most {
		lines, more = lines[:most], fmt.Sprintf(" and %d more", len(lines)-most)
	}
	for i, l := range lines {
		if i > 0 {
			out += ", "
		}
		out += l
	}
	return out + more
}

// lastGood opens the configuration that was applied, where the files cannot be used. The error is the files'.
func (w *watcher) lastGood(cause error) error {
	var bad *diag.ListError
	root, err := w.rootDirectory()
	if !errors.As(cause, &bad) || err != nil {
		return cause
	}
	probe := &house{}
	probe.machine.Root = root
	r, err := w.readRecord(probe.recordPath())
	if err != nil || r == nil {
		return cause
	}
	revision, known := r.Revisions[r.Site]
	if !known {
		return cause
	}
	h, err := w.loadRevision(revision)
	if err != nil {
		return cause
	}
	w.ids = slices.Sorted(maps.Keys(r.Containers))
	w.session, err = w.wire(h)
	return err
}

// keptIDs are the containers to keep: of those that a person had applied, or that were added since, those that are
// started at boot and any other that exists.
func (w *watcher) keptIDs() (ids []string) {
	for _, id := range w.ids {
		a := object.NewAddress(spec.KindContainer, id)
		c, ok := specOf[spec.Container](w.session.objects, a)
		if !ok {
			continue
		}
		exists := false
		if o, _ := object.Find(w.session.objects, a); !c.StartAtBoot {
			obs, err := w.session.target.Observe(w.ctx, o)
			exists = err == nil && len(obs.Status) > 0
		}
		if c.StartAtBoot || exists {
			ids = append(ids, id)
		}
	}
	return ids
}
