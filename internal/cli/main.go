// Package cli is the command line: one file a command. It reads the files, observes the machine, and hands objects to
// the engine and results to a view.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Exit codes.
const (
	exitDone      = 0
	exitFailed    = 1
	exitPending   = 2 // plan --detailed-exitcode only
	exitUnhealthy = 3 // or findings
	exitUsage     = 64
	exitConfig    = 78
)

type versionKey struct{}

// WithVersion tells Main which version this binary is.
func WithVersion(ctx context.Context, version string) context.Context {
	return context.WithValue(ctx, versionKey{}, version)
}

func versionOf(ctx context.Context) string {
	if v, ok := ctx.Value(versionKey{}).(string); ok {
		return v
	}
	return "dev"
}

// Main runs one command and returns its exit code. When ctx ends, no further change is begun, those under way come to
// their end, and what was done so far stands: the next run goes on from there. At --timeout also those under way are
// ended.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, drivers: driversOf(ctx), limits: limitsOf(ctx),
		proxmox: proxmoxOf(ctx), standIn: standInOf(ctx),
		idPlaces: idPlacesOf(ctx), version: versionOf(ctx)}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return a.exit(ctx, root.ExecuteContext(ctx))
}

// Commands is the tree of commands, for manual pages. Nothing of it is meant to be executed.
func Commands() *cobra.Command { return (&app{}).root() }

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	opts           options
	begun          bool // a command's own code was reached: what fails from there on is no wrong usage
	view           view.View
	log            *slog.Logger
	start          time.Time
	host           host.Host // the hypervisor; set by begin
	local          *host.Local
	blobs          atomic.Pointer[session] // the last that was opened
	drivers        engine.Drivers
	limits         Limits
	proxmox        spec.Proxmox // where it would be, on a Proxmox host
	idPlaces       IDPlaces
	standIn        *standIn   // another machine than this one; nil: this one
	lock           *jointLock // see houseLock
	moving         *moving    // while a running system is moved
	formats        []string   // of -o, which this command has besides text and json
	wish           wish
	migrating      bool // migrate itself is what was called
	version        string
	// SHA-256 of the program in whose place this one was begun, as it was replaced on disk
	succeeds string
	guard    func(context.Context) error // why nothing may be changed now; nil: it is not asked
	keys     keyScans                    // where private keys were looked for
	moveIDs  bool                        // containers without a range of ids of their own get one
	planIDs  bool                        // what that would do is shown
}

// options are the flags of every command.
type options struct {
	config  []string
	runtime string
	root    string
	output  string
	quiet   bool
	verbose bool
	noColor bool
	timeout time.Duration
	// downgrade: a lower version may take the place of a higher one.
	downgrade bool
	// firstRoot: the command may make the first root of a site. Only those may that a person calls to make containers.
	firstRoot bool
	newRoot   bool
	trust     bool
	yes       bool
	prune     bool
}

// codeError ends with a code; what there was to say is said already.
type codeError int

func (e codeError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// usageError is a wrong call.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }

// hintError is an error that knows what to do.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func hint(text, format string, args ...any) error {
	return &hintError{err: fmt.Errorf(format, args...), hint: text}
}

// exit says what there is to say about err and gives the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	var code codeError
	var usage *usageError
	var diags *diag.ListError
	var known *hintError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		return a.usage(usage.err, usage.hint)
	case !a.begun:
		return a.usage(err, "")
	case errors.As(err, &diags):
		a.view.Validation(a.refused(diags.List))
		return exitConfig
	case ctx.Err() != nil:
		a.view.Error(fmt.Errorf("interrupted: %w", err), "run it again: it goes on from where it stands")
	case errors.As(err, &known):
		a.view.Error(err, known.hint)
	default:
		a.view.Error(err, "")
	}
	return exitFailed
}

// usage shows a wrong call. The view does not stand yet: -o may be what was wrong.
func (a *app) usage(err error, hint string) int {
	fmt.Fprintln(a.stderr, "error: "+err.Error())
	if hint == "" {
		hint = "phoenix --help lists the commands, phoenix COMMAND --help their flags"
	}
	fmt.Fprintln(a.stderr, "  hint: "+a.advice(hint))
	return exitUsage
}

// defaultRoot is where phoenix keeps what it owns.
const defaultRoot = "/var/lib/phoenix"

// defaultConfig are the directories looked at when --config is not given, in order.
var defaultConfig = []string{"/etc/phoenix", "/usr/local/phoenix_hypervisor/etc"}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "phoenix",
		Short: "one file describes the containers; phoenix makes it so, keeps it so, and checks it",
		Long: `phoenix makes LXC containers, their volumes, a certificate authority, a gateway and
a proxy as two JSON files describe them, and changes nothing that is already so.`,
		Example: `  phoenix validate --config /etc/phoenix
  phoenix up
  phoenix create 103 101 102
  phoenix health`,
		SilenceErrors: true, SilenceUsage: true,
	}
	f := root.PersistentFlags()
	f.StringSliceVar(&a.opts.config, "config", nil, "directory with phoenix_lxc_configs.json and "+
		"phoenix_hypervisor_config.json, or the two files (default "+strings.Join(defaultConfig, ", then ")+")")
	f.StringVar(&a.opts.runtime, "runtime", "auto", "auto, pve or lxc")
	f.StringVar(&a.opts.root, "root", defaultRoot, "where phoenix keeps what it owns")
	f.StringVarP(&a.opts.output, "output", "o", "text", "text or json")
	f.BoolVarP(&a.opts.quiet, "quiet", "q", false, "say only what is wrong")
	f.BoolVarP(&a.opts.verbose, "verbose", "v", false, "log every command and change to standard error")
	f.BoolVar(&a.opts.noColor, "no-color", false, "no colours (also: NO_COLOR)")
	f.DurationVar(&a.opts.timeout, "timeout", 0, "give up after this time, such as 10m (default: no limit)")
	root.CompletionOptions.DisableDefaultCmd = true
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.AddCommand(
		a.initCommand(), a.addCommand(), a.removeCommand(), a.setupCommand(), a.upCommand(), a.createCommand(),
		a.planCommand(), a.applyCommand(), a.diffCommand(), a.revertCommand(),
		a.startCommand(), a.stopCommand(), a.restartCommand(), a.deleteCommand(),
		a.statusCommand(), a.volumesCommand(), a.healthCommand(), a.doctorCommand(), a.auditCommand(), a.migrateCommand(),
		a.watchCommand(), a.eventsCommand(), a.notifyCommand(),
		a.certCommand(), a.caCommand(), a.accessCommand(), a.validateCommand(), a.schemaCommand(), a.explainCommand(),
		a.versionCommand(), a.completionCommand(), a.agentCommand(),
	)
	root.SetHelpCommand(helpCommand())
	root.SetFlagErrorFunc(wrongFlag)
	return root
}

// group makes a command that only has others below it.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
	return cmd
}

// someIDs is for commands that need at least one container.
func someIDs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &usageError{err: fmt.Errorf("%s needs the id of at least one container", cmd.Name()),
			hint: "phoenix " + cmd.Name() + " 101"}
	}
	return nil
}

// command makes a cobra RunE of a command's own function.
func (a *app) command(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := notEmpty(cmd); err != nil {
			return err
		}
		if err := a.begin(); err != nil {
			return err
		}
		lasting := context.WithoutCancel(cmd.Context())
		if a.opts.timeout > 0 {
			var cancel context.CancelFunc
			lasting, cancel = context.WithTimeoutCause(lasting, a.opts.timeout,
				fmt.Errorf("--timeout %s is over", a.opts.timeout))
			defer cancel()
		}
		ctx, stop := engine.Interruptible(lasting, cmd.Context())
		defer stop()
		return run(ctx, args)
	}
}

// begin checks the flags of every command and makes what every command needs.
func (a *app) begin() error {
	a.start = time.Now()
	if formats := append([]string{"text", "json"}, a.formats...); !slices.Contains(formats, a.opts.output) {
		last := len(formats) - 1
		return &usageError{err: fmt.Errorf("--output %s is not known", a.opts.output),
			hint: strings.Join(formats[:last], ", ") + " or " + formats[last]}
	}
	if !slices.Contains([]string{"auto", "pve", "lxc"}, a.opts.runtime) {
		return &usageError{err: fmt.Errorf("--runtime %s is not known", a.opts.runtime), hint: "auto, pve or lxc"}
	}
	if a.opts.timeout < 0 {
		return &usageError{err: fmt.Errorf("--timeout %s is before now", a.opts.timeout)}
	}
	level := slog.LevelWarn
	if a.opts.verbose {
		level = slog.LevelDebug
	}
	a.log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	width, terminal := terminal(a.stdout)
	a.view = view.New(view.Options{
		Out: a.stdout, Err: a.stderr, JSON: a.opts.output == "json", Format: a.opts.output, Quiet: a.opts.quiet,
		Width:  width,
		Advice: a.advice,
		Live:   terminal && !a.opts.verbose, Color: terminal && !a.opts.noColor && os.Getenv("NO_COLOR") == "",
	})
	a.local = &host.Local{}
	a.host = &host.Bounded{Host: a.local, Dir: a.proxmox.Dir,
		Tools: []string{"pct", "pvesm", "pvesh", "pve-firewall", "pvecm"}}
	if a.standIn != nil {
		a.host = a.standIn.host
	}
	if a.opts.verbose {
		a.host = &loggedHost{Host: a.host, log: a.log}
	}
	a.begun = true
	return nil
}
