// Package lxc keeps system containers with Debian's lxc: their definition (a root file system cloned from a template, and a
// configuration file), their running, and the phoenix binary inside them. Containers live in an lxcpath of phoenix's own and are
// unprivileged where an id map is given.
package lxc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// NewContainer gives the driver of definitions without its types.
func NewContainer() provider.Erased { return provider.New(Container{}) }

// NewRunning gives the driver of running containers without its types.
func NewRunning() provider.Erased { return provider.New(Running{}) }

// NewBinary gives the driver of the phoenix binary inside without its types.
func NewBinary() provider.Erased { return provider.New(Binary{}) }

// plainID is what may stand in a path and on lxc's command lines.
var plainID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

func checkPlace(diags *diag.List, id, path string) {
	if !plainID.MatchString(id) {
		diags.Errorf("%q is no id for a container", id)
	}
	if !cleanPath(path) {
		diags.Errorf("container %s: lxcpath %q is not a clean absolute path", id, path)
	}
}

func cleanPath(p string) bool {
	return filepath.IsAbs(p) && filepath.Clean(p) == p && p != "/" && !strings.ContainsAny(p, "\n\r")
}

func home(path, id string) string       { return filepath.Join(path, id) }
func configPath(path, id string) string { return filepath.Join(path, id, "config") }

// mark is the first line of a configuration that is phoenix's.
func mark(id string) string { return "# phoenix: " + string(object.NewAddress(spec.KindContainer, id)) }

// readConfig gives a container's configuration; false: there is none. One that is not phoenix's is a permanent error.
func readConfig(h host.Host, path, id string) (string, bool, error) {
	raw, err := h.ReadFile(configPath(path, id))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if first, _, _ := strings.Cut(string(raw), "\n"); first != mark(id) {
		return "", false, provider.PermanentHint(fmt.Errorf("container %s in %s was not made by phoenix", id, path),
			fmt.Sprintf("choose another id, or hand it over: make %q the first line of its config", mark(id)))
	}
	return string(raw), true, nil
}

// tool builds an lxc command line.
func tool(name, path, id string, args ...string) []string {
	return append([]string{name, "-P", path, "-n", id}, args...)
}

// attach runs argv inside; nothing of the hypervisor's environment goes in.
func attach(ctx context.Context, h host.Host, path, id string, c host.Command, argv ...string) (host.Result, error) {
	c.Argv = inside(path, id, argv...)
	return h.Run(ctx, c)
}

func inside(path, id string, argv ...string) []string {
	return append(tool("lxc-attach", path, id, "--clear-env", "--"), argv...)
}

// notRunning tells from what lxc-attach said that there is no such container or that it does not run.
func notRunning(r host.Result) bool {
	said := string(r.Stderr)
	return strings.Contains(said, "Failed to get init pid") || strings.Contains(said, "Failed to get attach context") ||
		strings.Contains(said, "is not running") || strings.Contains(said, "No such file or directory - Failed to load config")
}
