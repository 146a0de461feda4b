// Command phoenix is the real one for tests of kill -9: it writes down every change it is about to make and can end itself, as
// SIGKILL does, right before or right after a chosen one.
//
// Environment:
//
//	PHX_CALLS    file to which each change is appended, one a line
//	PHX_KILL     the change at which to die, as it stands in that file; PHX_CALLS.struck is made first
//	PHX_NTH      which one of several equal ones, counted from 1 (default 1)
//	PHX_AFTER    not empty: the change is made before
//	PHX_PARENT   not empty: who started the process dies with it
//	PHX_BASE     a folder whose name is written as BASE
//	PHX_INSIDE   where the inside of a container is faked: the folder that its objects are written to
//	PHX_PROXMOX  the folder of a fake Proxmox host, as test/pve/fakes has it
//	PHX_VOLUMES  then: the folder of its volumes
package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/phoenix-hypervisor/phoenix/internal/cli"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/all"
)

func main() {
	syscall.Umask(0o022)
	ctx := cli.WithVersion(cli.WithDrivers(context.Background(), drivers()), "v0.0.0-kill")
	if dir := os.Getenv("PHX_PROXMOX"); dir != "" {
		ctx = cli.WithProxmox(ctx, spec.Proxmox{Dir: filepath.Join(dir, "pve"), State: filepath.Join(dir, "lib"), Locks: filepath.Join(dir, "locks")})
	}
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func drivers() engine.Drivers {
	out := engine.Drivers(all.Drivers())
	if dir := os.Getenv("PHX_INSIDE"); dir != "" {
		fakeInside(out, dir, os.Getenv("PHX_VOLUMES"))
	}
	if calls := os.Getenv("PHX_CALLS"); calls != "" {
		k := fromEnvironment(calls)
		for name, d := range out {
			out[name] = watched{Erased: d, killer: k}
		}
	}
	return out
}
