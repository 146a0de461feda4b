package pkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	journal = "/var/lib/dpkg/updates" // what dpkg was doing when it was killed
	limit   = 15 * time.Minute
)

// apt-get as a program uses it: it asks nothing, keeps configuration files that were changed, waits for another's lock,
// and calls an index that cannot be fetched a failure.
var aptGet = []string{
	"apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "APT::Update::Error-Mode=any",
	"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
}

// Apply implements provider.Driver.
func (dr Driver) Apply(ctx context.Context, h host.Host, a object.Address, want spec.Package, _ plan.Delta) error {
	// One at a time: apt-get waits for dpkg's lock, and not for that of the index.
	return provider.Alone(ctx, "packages", func(ctx context.Context) error {
		have, err := dr.Observe(ctx, h, a, want)
		if err != nil {
			return err
		}
		d := dr.Diff(want, have)
		if d.Empty() {
			return nil // another process installed them meanwhile
		}
		return install(ctx, h, want, d)
	})
}

func install(ctx context.Context, h host.Host, want spec.Package, d plan.Delta) error {
	if err := resume(ctx, h); err != nil {
		return err
	}
	update := run(ctx, h, append(aptGet[:len(aptGet):len(aptGet)], "update"))
	argv := append(aptGet[:len(aptGet):len(aptGet)], "install", "--no-install-recommends", "--")
	err := run(ctx, h, append(argv, missing(want, d)...))
	if err == nil {
		return nil // also where the index could not be fetched: the old one, or the cache, had all that was needed
	}
	return explain(want, update, err)
}

// missing are the packages the delta names; all of them where it names none.
func missing(want spec.Package, d plan.Delta) []string {
	var out []string
	for _, n := range want.Names {
		if d.Has(n) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return want.Names
	}
	return out
}

// resume lets a killed dpkg end what it was doing; apt-get refuses to work before that.
func resume(ctx context.Context, h host.Host) error {
	left, err := h.ReadDir(journal)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(left) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return run(ctx, h, []string{"dpkg", "--force-confdef", "--force-confold", "--configure", "-a"})
}

func run(ctx context.Context, h host.Host, argv []string) error {
	_, err := h.Run(ctx, host.Command{Argv: argv, Env: []string{"DEBIAN_FRONTEND=noninteractive"}, Mutates: true,
		Limit: limit})
	return err
}

// explain tells what a person can mend from what may pass by itself.
func explain(want spec.Package, update, install error) error {
	names := strings.Join(want.Names, " ")
	if update != nil {
		return fmt.Errorf("packages %s cannot be installed, as this container cannot fetch the package index: "+
			"check its address, gateway, resolver and /etc/apt/sources.list, or put the packages into the template: %w",
			names, errors.Join(update, install))
	}
	if strings.Contains(install.Error(), "Unable to locate package") ||
		strings.Contains(install.Error(), "has no installation candidate") {
		return provider.PermanentHint(fmt.Errorf("packages %s cannot be installed, as Debian's index does not have "+
			"them all: %w", names, install),
			"check the names, and the suites and components in /etc/apt/sources.list")
	}
	return fmt.Errorf("packages %s cannot be installed: %w", names, install)
}
