package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// shred empties the shared directory, once nobody sees it and all is well, and with it the copy and what was kept for
// the way back.
func (m *mover) shred(ctx context.Context) error {
	shared := m.journal.sharedPath()
	switch {
	case m.journal.there(m.journal.shredded()) && !m.journal.there(m.journal.copy()):
		m.view.Moved(view.Moved{Made: m.opts.yes, Done: true,
			Notes: []string{"the old directory was emptied already: " +
				strings.TrimSpace(m.journal.read(m.journal.shredded()))}})
		return nil
	case shared == "":
		return hint(m.again("migrate --live"), "no migration was made here: nothing is emptied")
	}
	if !m.journal.there(m.journal.shredded()) {
		if err := m.finished(ctx, shared); err != nil {
			return err
		}
	}
	out := view.Moved{Made: m.opts.yes, Steps: []view.Step{
		{Name: "no way back", What: "a note that the old directory is emptied: --rollback is refused from here on",
			Done: m.opts.yes},
		{Name: "shred", What: "the files in " + shared + " are written over and removed; so is their copy and what " +
			"was kept of the old containers", Done: m.opts.yes},
	}}
	if !m.opts.yes {
		out.Next = []string{m.again("migrate --live --shred --yes")}
		m.view.Moved(out)
		return nil
	}
	if err := m.empty(ctx, shared); err != nil {
		return hint(m.again("migrate --live --shred --yes")+" goes on from there", "%w", err)
	}
	out.Done, out.Elapsed = true, m.elapsed()
	out.Notes = append(m.notes, oldBlocks+shared+" too")
	m.view.Moved(out)
	return nil
}

// finished fails unless every container has left the shared directory and the house is healthy.
func (m *mover) finished(ctx context.Context, shared string) error {
	for _, s := range m.moving() {
		if done, err := s.done(ctx); err != nil || !done {
			return errors.Join(err,
				hint(m.again("migrate --live --yes"), "the migration is not finished (%s): nothing is emptied", s.name))
		}
	}
	if report := m.healthy(ctx); !report.Healthy {
		m.view.Health(report)
		return hint(m.again("health"), "the house is not healthy: nothing is emptied")
	}
	if shared == "/" || !filepath.IsAbs(shared) {
		return errors.New("no directory to empty: " + shared)
	}
	return m.unheld(ctx, shared)
}

// unheld fails while any process can still reach what is in the directory: it would see the keys, or put back what
// goes.
func (m *mover) unheld(ctx context.Context, dir string) error {
	if !m.journal.there(dir) {
		return nil
	}
	res, err := m.host.Run(ctx, host.Command{Argv: []string{m.machine.Binary.Path, "agent", "unheld", dir},
		Limit: copyLimit})
	if err == nil {
		return nil
	}
	if said, ok := strings.CutPrefix(string(res.Stderr), "error: "); ok {
		err = errors.New(strings.TrimSpace(said))
	}
	return hint("end it, or restart the container that it runs in; then run this again", "nothing is emptied: %w", err)
}

func (m *mover) empty(ctx context.Context, shared string) error {
	if err := m.journal.write(m.journal.shredded(), m.start.UTC().Format(time.RFC3339)+" "+shared+"\n"); err != nil {
		return err
	}
	for _, dir := range []string{shared, m.journal.copy(), filepath.Join(m.journal.dir, "containers")} {
		note, err := m.wipe(ctx, m.host, dir)
		if err != nil {
			return err
		}
		if note != "" {
			m.notes = append(m.notes, note)
		}
	}
	for _, dir := range []string{filepath.Join(m.journal.dir, "containers"), m.journal.copy()} {
		if err := m.host.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
