package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

func (a *app) initCommand() *cobra.Command {
	var want siteWish
	cmd := &cobra.Command{
		Use: "init", Short: "write a first configuration for this machine: a CA, a gateway and a proxy",
		Long: `init looks at this machine (bridges, addresses, routes, storages, archives of templates,
resolvers, ids of containers) and writes the two files of a configuration that is valid:
a certificate authority, a gateway and an internal proxy, each closed by a firewall, and
an application behind them where --app names one. On a terminal it asks what it cannot
know, five questions at most; flags answer them before. Then it shows what phoenix up
would do. It makes no container, and never overwrites a file.`,
		Example: `  phoenix init
  phoenix init --zone home.internal --app hello --yes
  phoenix init --dir /etc/phoenix --bridge vmbr1 --subnet 10.86.17.0/24`,
		Args: nothingMore,
	}
	f := cmd.Flags()
	f.StringVar(&want.dir, "dir", "", "where the files go (default: what --config names, else "+defaultConfig[0]+")")
	f.StringVar(&want.zone, "zone", "", "domain of the site, such as home.internal")
	f.StringVar(&want.bridge, "bridge", "", "bridge that the containers are on; one that is not there is made by "+
		"setup and up")
	f.StringVar(&want.subnet, "subnet", "", "IPv4 subnet of the bridge, such as 10.86.17.0/24")
	f.StringVar(&want.storage, "storage", "", "storage of Proxmox that the containers are on")
	f.StringVar(&want.template, "template", "", "archive of a Debian that the containers are made from")
	f.StringVar(&want.app, "app", "", "name of an application to begin with; none where it is not given")
	f.BoolVar(&a.opts.yes, "yes", false, "ask nothing: take what was found")
	cmd.RunE = a.command(func(ctx context.Context, _ []string) error {
		want.given = func(flag string) bool { return f.Changed(flag) }
		return a.initSite(ctx, want)
	})
	return cmd
}

// initSite writes the files, and then shows what up would do.
func (a *app) initSite(ctx context.Context, want siteWish) error {
	dir, err := a.initDir(want.dir)
	if err != nil {
		return err
	}
	if err := a.notThere(dir); err != nil {
		return err
	}
	seen, err := a.lookAround(ctx)
	if err != nil {
		return err
	}
	var ask asker = func(_, usual string) (string, error) { return usual, nil }
	if interactive(a.stdin) && !a.opts.yes {
		ask = a.asker()
	}
	site, err := seen.site(want, ask)
	if err != nil {
		return err
	}
	containers, hypervisor := site.Text()
	f := files{directories: []string{dir},
		list: []config.File{{Name: filepath.Join(dir, fileNames[0]), Data: containers},
			{Name: filepath.Join(dir, fileNames[1]), Data: hypervisor}}}
	h, err := a.loadFiles(f)
	if err != nil {
		return err // what was asked for makes no valid configuration: nothing is written
	}
	if err := a.writeNew(f); err != nil {
		return err
	}
	a.opts.config = []string{dir}
	if dir == defaultConfig[0] {
		a.opts.config = nil
	}
	doc := view.Begun{Zone: site.Zone, Bridge: site.Bridge, Subnet: site.Address.Masked().String(),
		Containers: h.ids(), Next: a.afterInit(seen)}
	for _, x := range f.list {
		doc.Files = append(doc.Files, x.Name)
	}
	a.view.Notes(h.diags)
	doc.Result, doc.Unplanned = a.planUp(ctx)
	a.view.Begun(doc)
	return nil
}

// planUp is what up would do; where that cannot be told yet, why.
func (a *app) planUp(ctx context.Context) (result *engine.Result, unplanned string) {
	err := func() error {
		a.opts.firstRoot, a.planIDs = true, true
		s, err := a.open()
		if err != nil {
			return err
		}
		defer s.close()
		objects, containers := s.selected(s.atBoot())
		if err := complete(s.cfg, s.machine, containers); err != nil {
			return err
		}
		planned, err := s.engine().Plan(ctx, objects)
		if err == nil {
			result = &planned
		}
		return err
	}()
	var known *hintError
	if errors.As(err, &known) {
		return nil, known.Error() + "; " + known.hint
	} else if err != nil {
		return nil, err.Error()
	}
	return result, ""
}

// afterInit are the commands that come next.
func (a *app) afterInit(seen *surroundings) []string {
	var next []string
	if !seen.unit {
		next = append(next, a.again("setup --yes")+"    # what this machine lacks, and watch at boot")
	}
	return append(next, a.again("up")+"    # makes all of it, and checks it",
		a.again("ca backup FILE --password-file FILE")+"    # the root comes back from this only")
}

// initDir is where the files go.
func (a *app) initDir(dir string) (string, error) {
	if dir == "" && len(a.opts.config) > 1 {
		return "", &usageError{err: errors.New("init writes into one directory, and --config names several"),
			hint: "--dir DIR"}
	}
	if dir == "" && len(a.opts.config) == 1 {
		dir = a.opts.config[0]
	}
	if dir == "" {
		dir = defaultConfig[0]
	}
	dir, err := filepath.Abs(dir)
	if m, look := a.host.Lstat(followed(dir)); err == nil && look == nil && !m.Mode.IsDir() {
		err = &usageError{err: fmt.Errorf("%s is no directory", dir), hint: "--dir takes one; it need not be there yet"}
	}
	return dir, err
}

// notThere refuses where there is a configuration.
func (a *app) notThere(dir string) error {
	if found := a.usual(dir); len(found) > 0 {
		return hint("look at it: phoenix validate --config "+host.Quote([]string{dir})+"; or write another: --dir DIR",
			"%s already exists, and init overwrites nothing: nothing was changed", strings.Join(found, " and "))
	}
	return nil
}

// writeNew writes the files where there are none. What another has written meanwhile stays.
func (a *app) writeNew(f files) error {
	if err := a.host.MkdirAll(f.directories[0], 0o755, host.Root); err != nil {
		return err
	}
	for _, x := range slices.Backward(f.list) { // nothing reads the hypervisor's alone
		there, err := a.host.ReadFile(x.Name)
		switch {
		case err == nil && !bytes.Equal(there, x.Data):
			return fmt.Errorf("%s was written by somebody else meanwhile: it was left as it is", x.Name)
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		err = a.host.WriteFile(x.Name, x.Data, 0o644, host.Owner{UID: os.Geteuid(), GID: os.Getegid()})
		if err != nil {
			return err
		}
	}
	return nil
}
