package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// oldScripts is where the users' own scripts were before phoenix.
const oldScripts = "/usr/local/phoenix_hypervisor/bin"

// observeMachine looks at everything that the configuration has to know of this machine. It changes nothing. Artifacts
// that are not here are left out; one whose checksum does not match is an error.
func (a *app) observeMachine(cfg *config.Config, directories []string, d *digests) (config.Machine, error) {
	root, err := a.rootDirectory()
	if err != nil {
		return config.Machine{}, err
	}
	m := config.Machine{
		Root: root, Cache: cacheDirectory(), Pools: map[string]string{}, Datasets: map[string]string{},
		Present: map[string]bool{}, Artifacts: map[string]config.Artifact{}, Scripts: map[string]config.Artifact{},
		Kinds:     map[string]string{},
		TrustHost: a.opts.trust, FirstRoot: a.opts.firstRoot, NewRoot: a.opts.newRoot, Prune: a.opts.prune,
	}
	if m.Runtime, err = a.runtime(); err != nil {
		return m, err
	}
	if m.Runtime == "pve" {
		if err := a.observeProxmox(&m); err != nil {
			return m, err
		}
	}
	release, err := a.host.ReadFile("/etc/os-release")
	if err == nil { // a machine without one is no Debian
		m.Suite = config.HostSuite(string(release))
	}
	m.Access = a.there(config.AccessState(cfg, root))
	a.observeTakeover(cfg, &m)
	mounts, err := a.host.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return m, err
	}
	m.Backend = backendAt(string(mounts), root)
	if m.Runtime != "pve" {
		if err := a.observePools(config.Datasets(cfg), string(mounts), &m); err != nil {
			return m, err
		}
	}
	for _, path := range config.Wanted(cfg, m.Storages) {
		there, err := a.host.Lstat(path)
		m.Present[path] = err == nil
		if err == nil {
			m.Kinds[path] = a.kindOf(cfg, m.Storages, path, there)
		}
	}
	a.observeMounts(cfg, string(mounts), &m)
	m.Directories = resolvedAll(directories)
	m.Locations = locate(config.Places(cfg, m), string(mounts))
	if m.Binary, err = ownBinary(d); err != nil {
		return m, err
	}
	if err := findPrograms(cfg, d, m); err != nil {
		return m, err
	}
	a.observeIDs(cfg, &m)
	m.Kernel = a.observeKernel()
	return m, a.findScripts(cfg, directories, d, m)
}

// backendAt is the provider of volumes below a path.
func backendAt(mountinfo, path string) string {
	if fileSystem(mountinfo, path) == "btrfs" {
		return "btrfs"
	}
	return "dir"
}

func (a *app) rootDirectory() (string, error) {
	root, err := filepath.Abs(followed(a.opts.root))
	if err == nil && root == "/" {
		err = &usageError{err: errors.New("--root / would make phoenix the owner of everything"),
			hint: "a directory of its own, such as /var/lib/phoenix"}
	}
	if m, look := a.host.Lstat(root); err == nil && look == nil && !m.Mode.IsDir() {
		err = &usageError{err: fmt.Errorf("--root %s is a file", root), hint: "a directory of its own, such as " +
			"/var/lib/phoenix; it need not be there yet"}
	}
	return root, err
}

// fileSystem is the type of the file system that path is on, or will be once it is made, by the kernel's list of mounts
// (proc_pid_mountinfo(5)). Where two are mounted at one place the later hides the earlier.
func fileSystem(mountinfo, path string) string {
	best, kind := -1, ""
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		fields, types := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(types) == 0 {
			continue
		}
		at := host.Unescape(fields[4])
		inside := at == "/" || path == at || strings.HasPrefix(path, at+"/")
		if inside && len(at) >= best {
			best, kind = len(at), types[0]
		}
	}
	return kind
}

// cacheDirectory is what outlives every root: $PHOENIX_CACHE, else phoenix in the user's cache directory.
func cacheDirectory() string {
	if dir := os.Getenv("PHOENIX_CACHE"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "phoenix")
	}
	return "/var/cache/phoenix"
}

// followed is a path as it is after links, where it exists: lxc names its sockets by the text of a path.
func followed(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if parent := filepath.Dir(path); parent != path {
		if _, err := os.Lstat(path); err != nil {
			return filepath.Join(followed(parent), filepath.Base(path))
		}
	}
	return path
}
