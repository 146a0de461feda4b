// Command phoenix is the real one for tests of what goes wrong: it writes down every change it is about to make, and at
// a chosen one it can end itself as SIGKILL does, or let that call fail, hang or give nonsense.
//
// Environment:
//
//	PHX_CALLS    file to which each change is appended, one a line
//	PHX_LOOKS    not empty: commands that change nothing are written down and can be chosen too
//	PHX_AT       the call at which it happens, as it stands in that file; then PHX_CALLS.struck has it as it was
//	PHX_FAULT    what: kill, fail, pause (until there is PHX_CALLS.go, and then make the call), or for commands also hang or
//	             garbage (the code is 0, and nothing was done)
//	PHX_NTH      which one of several equal ones, counted from 1 (default 1)
//	PHX_AFTER    not empty: the call is made before
//	PHX_ALWAYS   not empty: all equal ones that follow too
//	PHX_PARENT   not empty: who started the process dies with it
//	PHX_HASTE    not empty: nothing is waited for longer than half a second
//	PHX_AGENT_LIMIT
//	             how long a container's agent may be silent
//	PHX_IDS      the directory of links that give ranges of ids: nobody else on the machine has a say
//	PHX_BASE     a directory whose name is written as BASE
//	PHX_INSIDE   where the inside of a container is faked: the directory that its objects are written to
//	PHX_PROXMOX  the directory of a fake Proxmox host, as test/pve/fakes has it
//	PHX_VOLUMES  then: the directory of its volumes
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/cli"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/all"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/lxc"
)

func main() {
	syscall.Umask(0o022)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	ctx = cli.WithVersion(cli.WithDrivers(ctx, drivers()), "v0.0.0-kill")
	if raw := os.Getenv("PHX_AGENT_LIMIT"); raw != "" {
		ctx = cli.WithLimits(ctx, agentLimits(raw))
	}
	if haste() {
		ctx = cli.WithLimits(ctx,
			cli.Limits{Patience: 150 * time.Millisecond, Agent: agent.Limits{Hello: 500 * time.Millisecond}})
	}
	if dir := os.Getenv("PHX_PROXMOX"); dir != "" {
		if !haste() {
			// nothing gets well by waiting: the inside is faked
			ctx = cli.WithLimits(ctx, cli.Limits{Settle: time.Millisecond})
		}
		ctx = cli.WithProxmox(ctx, spec.Proxmox{Dir: filepath.Join(dir, "pve"), State: filepath.Join(dir, "lib"),
			Locks: filepath.Join(dir, "locks")})
	}
	if dir := os.Getenv("PHX_IDS"); dir != "" {
		ctx = cli.WithIDPlaces(ctx,
			cli.IDPlaces{Claims: filepath.Join(dir, "claims"), Processes: filepath.Join(dir, "processes")})
	}
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// agentLimits are those of a container's agent, all of them as short as can be borne by an honest one.
func agentLimits(raw string) cli.Limits {
	d, err := time.ParseDuration(raw)
	if err != nil {
		panic(err)
	}
	return cli.Limits{Patience: time.Second,
		Agent: agent.Limits{Hello: 2 * d, Silence: d, Observe: d + d/2, Apply: 2 * d, Check: 2 * d, Write: d, Close: d}}
}

func haste() bool { return os.Getenv("PHX_HASTE") != "" }

func drivers() engine.Drivers {
	out := engine.Drivers(all.Drivers())
	if dir := os.Getenv("PHX_INSIDE"); dir != "" {
		fakeInside(out, dir, os.Getenv("PHX_VOLUMES"))
	}
	if haste() {
		out["lxc/running"] = provider.New(lxc.Running{Boot: 500 * time.Millisecond})
	}
	if calls := os.Getenv("PHX_CALLS"); calls != "" {
		k := fromEnvironment(calls)
		for name, d := range out {
			out[name] = watched{Erased: d, saboteur: k}
		}
	}
	return out
}
