// Command phoenix makes the containers, volumes, certificates and routes of one JSON file true and keeps them so.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/phoenix-hypervisor/phoenix/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	// Whoever calls: what phoenix and its tools make has the modes that they ask for.
	syscall.Umask(0o022)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the work where it is safe; with the second the system's default is back.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(cli.WithVersion(ctx, version), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
