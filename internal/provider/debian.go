package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Debian is a root file system as an archive: built by mmdebstrap, and kept in a cache by what it is made from.
type Debian struct {
	Suite    string
	Mirror   string   // empty: what apt on this host uses
	Packages []string // besides those every one has: an init, and what the agent and the providers inside call
	Options  []string // more of mmdebstrap's
	Cache    string   // directory that outlives all roots; empty: the archive lies in Work
	Work     string   // directory that mmdebstrap works in; apt's own user must get in
}

const buildLimit = 30 * time.Minute

var basePackages = []string{"systemd", "systemd-sysv", "ca-certificates", "openssl", "iproute2", "procps"}

// buildOptions are part of what a cached archive is made from.
var buildOptions = []string{
	"--mode=root", "--variant=minbase", "--format=tar", "--quiet", `--aptopt=APT::Install-Recommends "false"`,
	"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/info/*",
	"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
	"--dpkgopt=path-include=/usr/share/doc/*/copyright",
}

func (d Debian) packages() []string {
	all := slices.Concat(basePackages, d.Packages)
	slices.Sort(all)
	return slices.Compact(all)
}

// Key names what mmdebstrap is asked for.
func (d Debian) Key() string {
	return keyOf(slices.Concat(buildOptions, d.packages(), []string{d.Suite, d.Mirror}, d.Options))
}

func keyOf(parts []string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

// Cached is where the archive is kept once it was built; empty without a cache.
func (d Debian) Cached() string {
	if d.Cache == "" {
		return ""
	}
	return filepath.Join(d.Cache, d.Key()+".tar")
}

// Archive gives the path of the archive: the cached one, or a new one that goes into the cache.
func (d Debian) Archive(ctx context.Context, h host.Host) (string, error) {
	if err := h.MkdirAll(d.Work, 0o755, host.Root); err != nil {
		return "", err
	}
	if d.Cache == "" {
		archive := filepath.Join(d.Work, "tree.tar")
		return archive, d.build(ctx, h, archive)
	}
	archive := d.Cached()
	if _, err := h.Lstat(archive); !errors.Is(err, fs.ErrNotExist) {
		return archive, err
	}
	if err := h.MkdirAll(d.Cache, 0o755, host.Root); err != nil {
		return "", err
	}
	// Two roots may build the same at once: each under a name of its own, and either result is good.
	temp := filepath.Join(d.Cache, "."+d.Key()+"-"+keyOf([]string{d.Work})+".tmp")
	if err := d.build(ctx, h, temp); err != nil {
		return "", errors.Join(err, h.Remove(temp))
	}
	return archive, h.Rename(temp, archive)
}

// build runs mmdebstrap in a mount namespace of its own, so that a killed one leaves no mounts in what is then removed.
func (d Debian) build(ctx context.Context, h host.Host, archive string) error {
	argv := slices.Concat([]string{"unshare", "--mount", "--", "mmdebstrap"}, buildOptions, d.Options,
		[]string{"--include=" + strings.Join(d.packages(), ","), d.Suite, archive})
	if d.Mirror != "" {
		argv = append(argv, d.Mirror)
	} else {
		argv = append(argv, sourcesOf(h, d.Suite)...)
	}
	if spec.DistributionOf(d.Suite) == spec.Ubuntu {
		argv = slices.Insert(argv, 4, "--components="+strings.ReplaceAll(components[spec.Ubuntu], " ", ","))
	}
	env := append([]string{"TMPDIR=" + d.Work}, proxyEnvironment(AptProxy(ctx, h))...)
	_, err := h.Run(ctx, host.Command{Argv: argv, Env: env, Mutates: true, Aside: true, Limit: buildLimit})
	if err != nil {
		return said(err, d.Suite)
	}
	_, err = h.Run(ctx, host.Command{Argv: []string{"sync", archive}})
	return err
}

// lastLines of what a failed build said are shown: the cause is there.
const lastLines = 4

// said is a failed build as people should see it: what mmdebstrap said last, and not its command of many hundred
// letters.
func said(err error, suite string) error {
	var run *host.RunError
	if !errors.As(err, &run) || run.Output == "" {
		return err
	}
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(run.Output), "\n"),
		func(l string) bool { return strings.TrimSpace(l) == "" })
	lines = lines[max(0, len(lines)-lastLines):]
	return WithHint(&buildError{text: "Debian " + suite + " could not be built: " + strings.Join(lines, "\n"),
		err: err},
		"where the mirror cannot be reached try again when it can, or name another one in apt's sources; containers "+
			"that exist need no template")
}

// buildError is a failed build in few words.
type buildError struct {
	text string
	err  error
}

func (e *buildError) Error() string { return e.text }
func (e *buildError) Unwrap() error { return e.err }
