package cli

import (
	"context"
	"log/slog"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// The daemon is awake for a moment every half a minute, and weighs on every container: memory before time.
const (
	daemonGC     = 20       // percent
	daemonMemory = 12 << 20 // bytes; soft
)

// changesFlag is on the command line of a session that is going to change things.
const changesFlag = "changes"

func (a *app) agentCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "agent", Short: "the inside of a container; phoenix itself calls it",
		Hidden: true})
	serve := &cobra.Command{Use: "serve", Short: "answer the hypervisor on standard input and output",
		Args: nothingMore}
	changes := serve.Flags().Bool(changesFlag, false, "the hypervisor is going to change things: the daemon rests "+
		"meanwhile")
	serve.RunE = a.command(func(ctx context.Context, _ []string) error { return a.agentServe(ctx, *changes) })
	events := &cobra.Command{Use: "events", Short: "what the daemon did", Args: nothingMore}
	since := events.Flags().Duration("since", 24*time.Hour, "how far back")
	events.RunE = a.command(func(context.Context, []string) error { return a.agentEvents(*since) })
	cmd.AddCommand(serve, events, a.agentMount(), a.agentUnmount(), a.agentWipe(), a.agentCopy(), a.agentUnheld(),
		&cobra.Command{
			Use: "daemon", Short: "keep this container's objects true", Args: nothingMore,
			RunE: a.command(func(ctx context.Context, _ []string) error { return a.agentDaemon(ctx) }),
		})
	return cmd
}

// agentServe ends at once with a container that is halted: systemd waits 10 s for each process that does not. The
// hypervisor stops a session with a word on its standard input.
func (a *app) agentServe(ctx context.Context, changes bool) error {
	signal.Reset(syscall.SIGTERM)
	server := agent.Server{
		Drivers: a.drivers, Hello: agent.Hello{Version: versionOf(ctx)}, Check: answerQuestion,
		Lock: newJointLock(agent.LockPath, 0, nil).lock, Key: agent.KeyLock(agent.LockPath),
	}
	if changes {
		server.Session = engine.FileLock{Path: agent.SessionPath, Shared: true}.Lock
	}
	return server.Serve(ctx, a.stdin, a.stdout)
}

func (a *app) agentDaemon(ctx context.Context) error {
	debug.SetGCPercent(daemonGC)
	debug.SetMemoryLimit(daemonMemory)
	// The journal has the time of each line.
	log := slog.New(slog.NewTextHandler(a.stderr,
		&slog.HandlerOptions{ReplaceAttr: func(groups []string, x slog.Attr) slog.Attr {
			if len(groups) == 0 && x.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return x
		}}))
	daemon := agent.Daemon{
		Drivers: a.drivers, Host: &host.Local{}, Log: log,
		Journal: &engine.Journal{Path: agent.EventsPath, By: "agent"},
		Lock:    newJointLock(agent.LockPath, 0, nil).lock, Key: agent.KeyLock(agent.LockPath),
		Quiet: engine.FileLock{Path: agent.SessionPath}.Lock,
	}
	return daemon.Run(engine.Prompt(ctx))
}
