package cli

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

func (a *app) setupCommand() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use: "setup", Short: "what this machine lacks before containers can be made on it; with --yes, see to it",
		Long: `setup looks for the packages that phoenix calls, the ids that root may give to
containers, the bridge, the storages (on a Proxmox host), the kernel's limits that all
containers share, and phoenix itself with the systemd unit that runs phoenix watch. It
says what is missing; with --yes it sees to it. It touches no disk, no partition and no
pool, changes no storage that is there, lowers no limit, and starts no container.

With --remove it is the other way round: the unit, the bridge, the limits at boot, the
ids and the program go, as far as setup made them. Packages, storages, volumes and the
configuration stay, and it is refused while containers of the configuration exist.`,
		Example: `  phoenix setup
  phoenix setup --yes
  phoenix setup --remove --yes`,
		Args: nothingMore, RunE: a.command(func(ctx context.Context, _ []string) error {
			if remove {
				return a.setupRemove(ctx)
			}
			return a.setup(ctx)
		}),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "undo what setup did; with --yes, else it is only said")
	cmd.Flags().BoolVar(&a.opts.yes, "yes", false, "do it; without, it is only said")
	cmd.Flags().BoolVar(&a.opts.downgrade, "downgrade", false,
		"agree to this phoenix taking the place of a higher version")
	return cmd
}

func (a *app) setup(ctx context.Context) error {
	h, err := a.loadSetup()
	if err != nil {
		return err
	}
	s, err := a.wire(h)
	if err != nil {
		return err
	}
	defer s.close()
	a.view.Notes(append(h.diags, a.unfit(ctx, h)...))
	if !a.opts.yes {
		result, err := s.engine().Plan(ctx, h.objects)
		if err != nil {
			return err
		}
		a.view.Plan(result)
		if len(result.Failures) > 0 {
			return codeError(exitFailed)
		}
		return nil
	}
	if s.machine.Proxmox != nil {
		if err := s.proxmoxReady(nil); err != nil {
			return err
		}
	}
	r, err := s.readRecord(s.recordPath())
	if err != nil {
		return err
	}
	if err := s.mayOverwrite(r, false); err != nil {
		return err
	}
	if err := a.recordSetup(h); err != nil {
		return err
	}
	done, err := s.apply(ctx, h.objects, nil)
	if err != nil {
		return err
	}
	a.view.Applied(done)
	if err := outcome(done); err != nil || r == nil {
		return err
	}
	return s.rememberProgram(ctx) // the watch that was installed may keep what this one made
}

// recordSetup remembers what is about to be written of what does not say whose it is, for --remove.
func (a *app) recordSetup(h *house) error {
	i, err := a.installation(h.machine.Binary.Path, h.machine.Directories)
	if err != nil {
		return err
	}
	r, err := readSetupRecord(a.host, setupRecordFile)
	if err == nil {
		r, err = r.expect(a.host, subIDFiles, h.objects, i.Program)
	}
	if err != nil {
		return err
	}
	return r.write(a.host, setupRecordFile)
}

// loadSetup is load for what belongs to the machine alone. What the containers need is not looked at.
func (a *app) loadSetup() (*house, error) {
	f, err := a.readFiles()
	if err != nil {
		return nil, err
	}
	h := &house{}
	if h.cfg, h.diags = config.Load(f.list); h.diags.HasErrors() {
		return nil, h.diags.Err()
	}
	h.digests = newDigests(a.host, cacheDirectory())
	if h.machine, err = a.observeMachine(h.cfg, f.directories, h.digests); err != nil {
		return nil, err
	}
	for _, path := range config.SetupWanted(h.cfg) {
		_, err := a.host.Lstat(path)
		h.machine.Present[path] = err == nil
	}
	i, err := a.installation(h.machine.Binary.Path, f.directories)
	if err != nil {
		return nil, err
	}
	var objects, diags = config.Setup(h.cfg, h.machine, i)
	if err := diags.Err(); err != nil {
		return nil, err
	}
	h.diags = diags
	h.objects, diags = plan.Order(objects)
	return h, diags.Err()
}

// programPlaces are where a unit may run phoenix from.
var programPlaces = []string{"/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"}

// installation keeps phoenix where it is, if that is a place for programs.
func (a *app) installation(binary string, directories []string) (config.Installation, error) {
	i := config.Installation{Program: binary, Debian: a.there("/var/lib/dpkg/status"),
		Systemd: a.there("/run/systemd/system")}
	if !slices.Contains(programPlaces, filepath.Dir(binary)) {
		i.Program = filepath.Join(programPlaces[0], "phoenix")
	}
	if len(a.opts.config) > 0 {
		for _, c := range a.opts.config {
			path, err := filepath.Abs(c)
			if err != nil {
				return i, err
			}
			i.Arguments = append(i.Arguments, "--config", path)
		}
	}
	root, err := a.rootDirectory()
	if err != nil {
		return i, err
	}
	if root != defaultRoot {
		i.Arguments = append(i.Arguments, "--root", root)
	}
	if a.opts.runtime != "auto" {
		i.Arguments = append(i.Arguments, "--runtime", a.opts.runtime)
	}
	return i, nil
}

func (a *app) there(path string) bool {
	_, err := a.host.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
