package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver. Where no nginx runs only files are written; its unit starts it.
func (Driver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Nginx, _ plan.Delta) error {
	if s.Part == spec.NginxOwn {
		return applyOwn(ctx, h, s)
	}
	why := unusable(h, s)
	if s.Part == spec.NginxTLS && why != "" {
		return fmt.Errorf("%s: nginx cannot serve TLS yet: %s", a, why)
	}
	if err := directories(h, s); err != nil {
		return err
	}
	if s.Part == spec.NginxBase {
		if err := alongside(ctx, h, s, why); err != nil {
			return err
		}
	}
	root, err := trust(h, s)
	if err != nil {
		return err
	}
	r := render(s, root) // base leaves the root out
	if err := put(ctx, h, s, r); err != nil {
		return err
	}
	if !running(h) || loaded(ctx, h, s.Part) == r.digest {
		return nil
	}
	return reload(ctx, h, s, r.digest)
}

// alongside keeps the TLS part with the base: one that cannot be loaded goes. One that can is there before the base
// replaces another nginx.conf, so that whatever TLS that one served goes on with the same reload.
func alongside(ctx context.Context, h host.Host, s spec.Nginx, unusable string) error {
	if unusable != "" {
		return h.Remove(tlsFile(s))
	}
	s.Part = spec.NginxTLS
	if _, err := h.Lstat(tlsFile(s)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	root, err := trust(h, s)
	if err != nil {
		return err
	}
	return put(ctx, h, s, render(s, root))
}

func directories(h host.Host, s spec.Nginx) error {
	if err := h.RemoveAll(nextDir(s)); err != nil { // of an apply that was killed
		return err
	}
	for _, dir := range []string{tlsDir(s), logDir} {
		if err := h.MkdirAll(dir, 0o755, host.Root); err != nil {
			return err
		}
	}
	if s.Part != spec.NginxBase {
		return nil
	}
	if err := h.MkdirAll(filepath.Join(ownDir(s), ownHTTP), 0o755, host.Root); err != nil {
		return err
	}
	if err := h.MkdirAll(s.Webroot, 0o711, host.Root); err != nil {
		return err
	}
	if why := unreachable(h, s.Webroot); why != "" {
		return provider.PermanentHint(fmt.Errorf("nginx cannot serve challenges from %s: %s", s.Webroot, why),
			"let everyone pass through that directory (chmod o+x), or use another webroot")
	}
	return nil
}

// put replaces the part's file once nginx itself has found the new one good.
func put(ctx context.Context, h host.Host, s spec.Nginx, r rendered) error {
	have, err := h.ReadFile(partFile(s))
	if err == nil && string(have) == r.text {
		if m, err := h.Lstat(partFile(s)); err != nil || m.Mode == fileMode {
			return err
		}
		return h.Chmod(partFile(s), fileMode)
	}
	if err := check(ctx, h, s, r); err != nil {
		return err
	}
	return h.WriteFile(partFile(s), []byte(r.text), fileMode, host.Root)
}

// check has nginx read the whole configuration as it would be.
func check(ctx context.Context, h host.Host, s spec.Nginx, r rendered) error {
	dir := nextDir(s)
	if err := h.MkdirAll(dir, 0o700, host.Root); err != nil {
		return err
	}
	conf, base := filepath.Join(dir, "nginx.conf"), r.text
	if s.Part == spec.NginxTLS {
		next := filepath.Join(dir, "tls.conf")
		if err := h.WriteFile(next, []byte(r.text), 0o600, host.Root); err != nil {
			return err
		}
		s.Part = spec.NginxBase
		base = renderBase(s, next)
	}
	if err := h.WriteFile(conf, []byte(base), 0o600, host.Root); err != nil {
		return err
	}
	said, err := test(ctx, h, conf)
	if err == nil && said != "" {
		said, err = withoutOwn(ctx, h, s, conf, said)
	}
	if said != "" {
		err = errors.Join(err, fmt.Errorf("nginx does not take the new configuration, the one in place stays: %s", said))
	}
	return errors.Join(err, h.RemoveAll(dir))
}

// withoutOwn looks whether the users' snippets are why a new configuration is not taken. If so their copies go, so that
// they hold nothing up: the part own says then which of them is not taken any more, and where.
func withoutOwn(ctx context.Context, h host.Host, s spec.Nginx, conf, said string) (string, error) {
	have, err := snippets(h, copiesDir(s))
	if err != nil || len(have) == 0 {
		return said, err
	}
	none := strings.NewReplacer(copiesDir(s)+"/", filepath.Join(nextDir(s), "none")+"/",
		filepath.Join(tlsDir(s), "*.conf"), filepath.Join(nextDir(s), "alone.conf*"),
		filepath.Join(nextDir(s), "tls.conf"), filepath.Join(nextDir(s), "alone.conf"))
	names := filepath.Join(nextDir(s), "tls.conf") // of the part tls
	if s.Part == spec.NginxBase && !exists(h, names) {
		names = tlsFile(s)
	}
	for from, to := range map[string]string{conf: "alone-nginx.conf", names: "alone.conf"} {
		text, err := h.ReadFile(from)
		if err == nil {
			err = h.WriteFile(filepath.Join(nextDir(s), to), []byte(none.Replace(string(text))), 0o600, host.Root)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return said, err
		}
	}
	if alone, err := test(ctx, h, filepath.Join(nextDir(s), "alone-nginx.conf")); err != nil || alone != "" {
		return said, err
	}
	return "", h.RemoveAll(copiesDir(s))
}

func exists(h host.Host, file string) bool {
	_, err := h.Lstat(file)
	return err == nil
}

var loadLimit = 15 * time.Second // shorter in tests

const loadEvery = 3 * time.Millisecond

func reload(ctx context.Context, h host.Host, s spec.Nginx, digest string) error {
	old := accepting(h)
	if _, err := h.Run(ctx, host.Command{Argv: []string{"nginx", "-c", confFile(s), "-s", "reload"},
		Mutates: true}); err != nil {
		return fmt.Errorf("nginx reload: %w", err)
	}
	// Nothing is changed while it is waited for, and workers that take their time keep nobody from anything.
	return provider.Wait(ctx, func(ctx context.Context) error { return awaitLoaded(ctx, h, s, digest, old) })
}

func awaitLoaded(ctx context.Context, h host.Host, s spec.Nginx, digest string, old []string) error {
	stoppable := ctx
	ctx, cancel := context.WithTimeout(stoppable, loadLimit)
	defer cancel()
	for {
		// nginx lets old workers accept for another 100 ms, so that an answer alone does not tell that all of it is
		// new.
		still := slices.ContainsFunc(accepting(h), func(pid string) bool { return slices.Contains(old, pid) })
		got := loaded(ctx, h, s.Part)
		if got == digest && !still {
			return nil
		}
		err := pause(ctx, loadEvery)
		if err != nil && stoppable.Err() != nil {
			return fmt.Errorf("nginx was told to reload, which is not waited for: %w", context.Cause(stoppable))
		}
		if err != nil {
			return fmt.Errorf("nginx was told to reload and still has %q loaded, want %q: %w (why is in %s/error.log)",
				got, digest, err, logDir)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
