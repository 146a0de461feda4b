package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff", Short: "how the files differ from the configuration that was last applied; changes nothing",
		Long: `diff compares the files with the configuration that was last applied, and tells what of it
waits for phoenix apply, as phoenix watch applies by itself only what interrupts nothing,
closes nothing and removes nothing. Secrets are neither kept nor shown.`,
		Example: `  phoenix diff
  phoenix diff -o json`,
		Args: nothingMore, RunE: a.command(func(context.Context, []string) error {
			d, _, err := a.sinceApplied()
			if err != nil {
				return err
			}
			a.view.Difference(d)
			return nil
		}),
	}
}

func (a *app) revertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "revert", Short: "put the files back to the configuration that was last applied; the present ones are " +
			"kept beside",
		Long: `revert writes the configuration that was last applied over the files, and keeps the present
ones beside them. Values that are secrets stay as they are in the files. Without --yes the
difference is shown and nothing is written. Scripts are not put back.`,
		Example: `  phoenix revert
  phoenix revert --yes`,
		Args: nothingMore, RunE: a.command(func(context.Context, []string) error { return a.revert() }),
	}
	cmd.Flags().BoolVar(&a.opts.yes, "yes", false, "write the files")
	return cmd
}

// sinceApplied compares the files with what was last applied. The files need not be good: that may be why somebody
// asks.
func (a *app) sinceApplied() (view.Difference, []config.MigratedFile, error) {
	out := view.Difference{}
	f, err := a.readFiles()
	if err != nil {
		return out, nil, err
	}
	h := &house{files: f}
	if h.machine.Root, err = a.rootDirectory(); err != nil {
		return out, nil, err
	}
	r, err := a.readRecord(h.recordPath())
	if err != nil {
		return out, nil, err
	}
	if r == nil {
		return out, nil, hint(a.again("up"), "no configuration was applied yet under %s", h.machine.Root)
	}
	last := r.Revisions[r.Site]
	out.Applied, out.Version = last.Time, last.Version
	back, err := a.filesBack(f, last, &out)
	if err != nil {
		return out, nil, err
	}
	if s, err := a.open(); err == nil {
		defer s.close()
		out.Scripts = changedScripts(last.Scripts, s.machine.Scripts)
		if out.Waiting, err = s.waiting(); err != nil {
			return out, nil, err
		}
	} else {
		out.Diagnostics = problemsOf(err)
	}
	return out, back, nil
}

// filesBack are the files that differ, as they are and as they were applied.
func (a *app) filesBack(f files, last applied, out *view.Difference) (back []config.MigratedFile, err error) {
	for _, was := range last.Files {
		i := slices.IndexFunc(f.list, func(x config.File) bool {
			path, err := filepath.Abs(x.Name)
			return err == nil && path == was.Name
		})
		if i < 0 {
			return nil, hint("name the same files with --config", "%s was applied, and is not among the files now",
				was.Name)
		}
		now := f.list[i]
		text, missing := config.WithSecretsOf([]byte(was.Text), now.Data)
		if len(missing) > 0 {
			out.Missing = append(out.Missing, was.Name+": "+strings.Join(missing, ", "))
		}
		shown := config.WithoutSecrets(now)
		if shown == nil {
			shown = []byte("(this is no JSON: it is not shown, as it may hold secrets)\n")
		}
		if bytes.Equal(shown, []byte(was.Text)) {
			continue
		}
		out.Files = append(out.Files,
			view.MigratedFile{File: now.Name, Diff: string(diff.Diff(now.Name, []byte(was.Text), now.Name, shown))})
		back = append(back, config.MigratedFile{Name: now.Name, Old: now.Data, New: text})
	}
	return back, nil
}

func changedScripts(was map[string]string, now map[string]config.Artifact) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if now[name].SHA256 != was[name] {
			out = append(out, name)
		}
	}
	return out
}

// problemsOf are what keeps files from being used, as diagnostics.
func problemsOf(err error) diag.List {
	var list *diag.ListError
	if errors.As(err, &list) {
		return mistakes(list.List)
	}
	return diag.List{{Summary: err.Error()}}
}

func (a *app) revert() error {
	d, back, err := a.sinceApplied()
	if err != nil {
		return err
	}
	switch {
	case len(d.Missing) > 0:
		return hint("write them in by hand", "secrets that stood in the configuration when it was applied are not in "+
			"the files any more: %s", strings.Join(d.Missing, "; "))
	case a.opts.yes:
		for i, f := range back {
			if d.Files[i].Kept, err = a.replaceFile(f); err != nil {
				return err
			}
		}
		d.Written = len(back) > 0
	}
	d.Revert, d.Next = true, fmt.Sprintf("%s --yes", a.again("revert"))
	a.view.Difference(d)
	return nil
}
