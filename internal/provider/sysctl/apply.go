package sysctl

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver: the file first, then what runs, so that a boot in between is no step back.
func (d Driver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Sysctl, _ plan.Delta) error {
	have, err := d.Observe(ctx, h, a, s)
	if err != nil {
		return err
	}
	text := render(s, wanted(s, have))
	switch {
	case text == have.File:
	case text == "":
		err = h.Remove(s.Path)
	default:
		if err = h.MkdirAll(filepath.Dir(s.Path), 0o755, host.Root); err == nil {
			err = h.WriteFile(s.Path, []byte(text), 0o644, host.Root)
		}
	}
	if err != nil {
		return err
	}
	for _, l := range s.Least {
		if now, ok := have.Now[l.Key]; ok && now < l.Value {
			if err := raise(ctx, h, d.file(l.Key), l.Value); err != nil {
				return provider.PermanentHint(fmt.Errorf("%s cannot be raised to %d: %w", l.Key, l.Value, err),
					"in a container only the machine that it runs on can do that")
			}
		}
	}
	return nil
}

// raise writes in place: the kernel's files cannot be replaced.
func raise(ctx context.Context, h host.Host, file string, value int64) error {
	argv := []string{"sh", "-c", `printf '%s\n' "$2" >"$1"`, "sh", file, strconv.FormatInt(value, 10)}
	_, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true})
	return err
}

// render is the text of phoenix's file; empty: there is to be none.
func render(s spec.Sysctl, values map[string]int64) string {
	if len(values) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("# Written by phoenix setup: limits that all containers share. It only raises what is lower " +
		"elsewhere.\n")
	for _, l := range s.Least {
		if v, ok := values[l.Key]; ok {
			fmt.Fprintf(&b, "%s = %d\n", l.Key, v)
		}
	}
	return b.String()
}

// Delete implements provider.Deleter. What runs stays as it is: somebody may need it by now.
func (Driver) Delete(_ context.Context, h host.Host, _ object.Address, s spec.Sysctl) error {
	return h.Remove(s.Path)
}
