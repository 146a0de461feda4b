package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

func (a *app) migrateCommand() *cobra.Command {
	var write bool
	var live liveOptions
	cmd := &cobra.Command{
		Use: "migrate", Short: "rewrite a configuration with a shared directory to one with own volumes",
		Long: `migrate takes out of the configuration what two containers see, gives the certificate
authority, the gateway and the proxy volumes of their own, and keeps all else byte for byte.
It shows the difference; only --write writes, and keeps the old files beside the new ones.
The system is not touched.

With --live it moves the running system: the old containers are taken over where they
are, the CA with its root, and the gateway answers all along. It shows the steps, and
what leaked; only --yes takes them. Stopped or killed anywhere, the next run goes on.
--rollback goes back while the old directory exists, --shred empties that at the end.`,
		Example: `  phoenix migrate --config /usr/local/phoenix_hypervisor/etc
  phoenix migrate --config /usr/local/phoenix_hypervisor/etc --write
  phoenix migrate --live --from /var/lib/lxc
  phoenix migrate --live --yes
  phoenix migrate --live --rollback --yes
  phoenix migrate --live --shred --yes`,
		Args: nothingMore,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			a.migrating = true
			switch {
			case !live.live && (live.rollback || live.shred || live.newRoot || live.from != "" || a.opts.yes):
				return &usageError{err: errors.New("--rollback, --shred, --new-root, --from and --yes are for --live"),
					hint: "phoenix migrate --live"}
			case live.live && write, live.rollback && live.shred:
				return &usageError{err: errors.New("--live, --rollback and --shred write what they must: give one of " +
					"--write, --rollback and --shred")}
			case live.live:
				return a.migrateLive(ctx, live)
			}
			return a.migrate(write)
		}),
	}
	cmd.Flags().BoolVar(&write, "write", false, "write the files; each old one is kept beside as .orig, or with the "+
		"time in its name")
	f := cmd.Flags()
	f.BoolVar(&live.live, "live", false, "move the running system, too")
	f.StringVar(&live.from, "from", "", "with --live: lxcpath of the old containers (default "+otherContainers+")")
	f.BoolVar(&live.newRoot, "new-root", false, "with --live: a new root as well, once all else is done; needed "+
		"where the old one's key leaked")
	f.BoolVar(&live.rollback, "rollback", false, "with --live: back to the old layout")
	f.BoolVar(&live.shred, "shred", false, "with --live: empty the old directory, once all is healthy; then there is "+
		"no way back")
	f.BoolVar(&a.opts.yes, "yes", false, "with --live: do it")
	return cmd
}

func (a *app) migrate(write bool) error {
	files, err := a.readFiles()
	if err != nil {
		return err
	}
	m := config.Migrate(files.list)
	if len(m.Changes) == 0 &&
		slices.ContainsFunc(mistakes(m.Before), func(d diag.Diagnostic) bool { return d.File != "" }) {
		return m.Before.Err()
	}
	out := view.Migration{Diagnostics: mistakes(m.After)}
	// the other file may be elsewhere
	out.Valid = !slices.ContainsFunc(out.Diagnostics, func(d diag.Diagnostic) bool { return d.File != "" })
	for _, c := range m.Changes {
		out.Changes = append(out.Changes,
			view.Change{File: c.Source.File, Line: c.Source.Line, Object: c.Object, What: c.What})
	}
	for _, f := range m.Files {
		if bytes.Equal(f.Old, f.New) {
			continue
		}
		changed := view.MigratedFile{File: f.Name, Diff: string(diff.Diff(f.Name, f.Old, f.Name, f.New))}
		if write {
			if changed.Kept, err = a.replaceFile(f); err != nil {
				return err
			}
			out.Written = true
		}
		out.Files = append(out.Files, changed)
	}
	a.view.Migration(out)
	if !out.Valid {
		return codeError(exitFailed)
	}
	return nil
}

// mistakes are the errors of a list.
func mistakes(list diag.List) diag.List {
	var out diag.List
	for _, d := range list {
		if d.Severity == diag.Error {
			out = append(out, d)
		}
	}
	return out
}

// replaceFile writes a migrated file in the place of the old one, which it keeps beside, and returns where. A file that
// changed since it was read is left alone.
func (a *app) replaceFile(f config.MigratedFile) (string, error) {
	path := followed(f.Name)
	meta, err := a.host.Lstat(path)
	if err != nil {
		return "", err
	}
	owner := host.Owner{UID: meta.UID, GID: meta.GID}
	kept, err := a.unused(path)
	if err != nil {
		return "", err
	}
	if err := a.host.WriteFile(kept, f.Old, meta.Mode.Perm(), owner); err != nil {
		return "", fmt.Errorf("the old file could not be kept, nothing was changed: %w", err)
	}
	now, err := a.host.ReadFile(path)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(now, f.Old) {
		return "", hint("run it again", "%s changed while it was migrated; it was left as it is", path)
	}
	return kept, a.host.WriteFile(path, f.New, meta.Mode.Perm(), owner)
}

// unused is a name beside path that nothing has: with .orig behind it, or with the time.
func (a *app) unused(path string) (string, error) {
	stamp := path + "." + a.start.Format("20060102-150405")
	names := []string{path + ".orig", stamp}
	for i := range 100 {
		names = append(names, fmt.Sprintf("%s-%d", stamp, i+2))
	}
	for _, name := range names {
		if _, err := a.host.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", errors.New("there is no free name for the old file beside " + path + "; time is " +
		a.start.Format(time.DateTime))
}
