package script

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	limit   = 30 * time.Minute // users' scripts install and build things
	tailLen = 2 << 10          // bytes of output shown of a script that failed
)

// Apply implements provider.Driver.
func (dr Driver) Apply(ctx context.Context, h host.Host, a object.Address, want spec.Script, _ plan.Delta) error {
	path := dr.path(want)
	if err := h.MkdirAll(filepath.Dir(filepath.Dir(path)), 0o755, host.Root); err != nil {
		return err
	}
	if err := h.MkdirAll(filepath.Dir(path), 0o700, host.Root); err != nil {
		return err
	}
	err := h.Fetch(ctx, want.SHA256, path, 0o700, host.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("script %s (sha256 %s) is not on this host: run phoenix apply on the hypervisor, which "+
			"has it: %w", want.Name, want.SHA256, err)
	}
	if err != nil {
		return err
	}
	return provider.Alone(ctx, "script/"+want.Name, func(ctx context.Context) error {
		return dr.run(ctx, h, a, want)
	})
}

// run runs it and notes that it ended well. It may take as long as it likes, and nobody else waits for it: another
// process may have run it while this one waited for its turn.
func (dr Driver) run(ctx context.Context, h host.Host, a object.Address, want spec.Script) error {
	if have, err := dr.Observe(ctx, h, a, want); err != nil || dr.Diff(want, have).Empty() {
		return err
	}
	path := dr.path(want)
	res, err := h.Run(ctx, host.Command{
		Argv: append([]string{path}, want.Args...), Env: []string{"DEBIAN_FRONTEND=noninteractive"}, Mutates: true,
		Limit: limit,
	})
	if err != nil {
		return failed(want, res, err)
	}
	return h.WriteFile(path+markSuffix, []byte(want.SHA256+"\n"), 0o600, host.Root)
}

// failed tells a script that ended with a code or that cannot be run, which nobody but its author can mend, from one
// that was ended.
func failed(s spec.Script, res host.Result, err error) error {
	var run *host.RunError
	if host.Unrunnable(err) {
		return provider.PermanentHint(fmt.Errorf("script %s cannot be run: %w", s.Name, err),
			"look at its first line: #! and an interpreter that the container has, with no carriage return at the end")
	}
	if !errors.As(err, &run) || run.Code <= 0 {
		return fmt.Errorf("script %s did not end by itself: %w", s.Name, err)
	}
	text := fmt.Errorf("script %s ended with code %d: %w\nits output ended with:\n%s", s.Name, run.Code, err,
		tail(res.Stdout))
	return provider.PermanentHint(text, "mend the script; it runs again with the next phoenix apply")
}

func tail(b []byte) []byte { return b[max(0, len(b)-tailLen):] }
