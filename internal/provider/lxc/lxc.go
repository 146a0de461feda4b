// Package lxc keeps system containers with Debian's lxc: their definition (a root file system cloned from a template,
// and a configuration file), their running, and the phoenix binary inside them. Containers live in an lxcpath of
// phoenix's own and are unprivileged where an id map is given.
package lxc

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
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
func mark(id string) string { return provider.ContainerMark(id) }

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

// inside is the container as lxc's tools find it.
func inside(path, id string) provider.Inside { return provider.Inside{Path: path, ID: id} }
