package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// The programs that go into containers besides phoenix.
const (
	programCA    = "step-ca"
	programProxy = "traefik"
)

func ownBinary(d *digests) (config.Artifact, error) {
	path, err := os.Executable()
	if err != nil {
		return config.Artifact{}, fmt.Errorf("phoenix cannot find its own binary: %w", err)
	}
	sum, err := d.sum(path)
	if err != nil {
		return config.Artifact{}, fmt.Errorf("phoenix cannot read its own binary: %w", err)
	}
	return config.Artifact{Path: path, SHA256: sum}, nil
}

// findPrograms finds step-ca and Traefik: what the configuration names, else what tools/artifacts left in the cache.
// What is not here is left out. A checksum that does not match is an error.
func findPrograms(cfg *config.Config, d *digests, m config.Machine) error {
	built := builtPrograms(d, m.Cache)
	for name, p := range map[string]*config.Program{programCA: cfg.Hypervisor.Artifacts.StepCA,
		programProxy: cfg.Hypervisor.Artifacts.Traefik} {
		found, here := built[name]
		err := error(nil)
		switch {
		case p != nil && p.URL != "":
			found, err = fetchedProgram(name, p, d, m.Cache)
		case p != nil:
			found = config.Artifact{Path: p.Path, SHA256: p.SHA256}
			err = verify(d, name, found, "the configuration ("+p.Source.String()+")",
				"put the file there, or correct path and sha256")
		case here:
			err = verify(d, name, found, "the index beside it", "build it again: make artifacts")
		default:
			continue
		}
		if err != nil {
			return err
		}
		m.Artifacts[name] = found
	}
	return nil
}

// verify compares a file with the checksum that by says it has.
func verify(d *digests, name string, x config.Artifact, by, todo string) error {
	sum, err := d.sum(x.Path)
	if err != nil {
		return hint(todo, "artifact %s, named by %s, cannot be read: %w", name, by, err)
	}
	if sum != x.SHA256 {
		return hint(todo, "artifact %s: %s has sha256 %s, %s says %s; nothing was changed", name, x.Path, sum, by,
			x.SHA256)
	}
	return nil
}

// packagedPrograms is where the Debian package phoenix-artifacts puts the programs, with an index like the cache's.
const packagedPrograms = "/usr/lib/phoenix/artifacts"

// builtPrograms reads the index that tools/artifacts leaves in the cache, and that of the Debian package for what the
// cache lacks. Without one there are none.
func builtPrograms(d *digests, cache string) map[string]config.Artifact {
	found := map[string]config.Artifact{}
	for _, dir := range []string{filepath.Join(cache, "artifacts"), packagedPrograms} {
		for name, x := range readIndex(d, dir) {
			if _, here := found[name]; here {
				continue
			}
			if path, ok := located(d, dir, x.Path); ok {
				found[name] = config.Artifact{Path: path, SHA256: x.SHA256}
			}
		}
	}
	return found
}

func readIndex(d *digests, dir string) (index map[string]config.Artifact) {
	var raw map[string]struct {
		Path   string `json:"path"`
		SHA256 string `json:"sha256"`
	}
	b, err := d.host.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil || json.Unmarshal(b, &raw) != nil {
		return nil
	}
	index = map[string]config.Artifact{}
	for name, x := range raw {
		index[name] = config.Artifact{Path: x.Path, SHA256: x.SHA256}
	}
	return index
}

// located is where a program of an index in dir is: a relative path counts from dir, and a cache that was moved or
// copied as a whole has it at the same place below dir as before.
func located(d *digests, dir, path string) (string, bool) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	for _, p := range []string{path, filepath.Join(dir, filepath.Base(filepath.Dir(path)), filepath.Base(path))} {
		if _, err := d.host.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return p, true
		}
	}
	return path, false
}

// fetchedProgram is where a program that the configuration gives by URL is, or will be once it is fetched.
func fetchedProgram(name string, p *config.Program, d *digests, cache string) (config.Artifact, error) {
	x := config.Artifact{Path: filepath.Join(cache, "fetched", p.SHA256, name), SHA256: p.SHA256}
	if _, err := d.host.Lstat(x.Path); errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	return x, verify(d, name, x, "the configuration ("+p.Source.String()+")", "remove "+x.Path+"; it is fetched again")
}

// fetchPrograms fetches the needed programs that the configuration gives by URL and that are not in the cache yet. A
// body with another checksum is never put in place.
func (a *app) fetchPrograms(ctx context.Context, cfg *config.Config, m config.Machine, needed []string) error {
	for name, p := range map[string]*config.Program{programCA: cfg.Hypervisor.Artifacts.StepCA,
		programProxy: cfg.Hypervisor.Artifacts.Traefik} {
		x := m.Artifacts[name]
		if p == nil || p.URL == "" || !slices.Contains(needed, name) {
			continue
		}
		if _, err := a.host.Lstat(x.Path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		from := redacted(p.URL)
		a.log.Info("fetching", "artifact", name, "url", from)
		owner := host.Owner{UID: -1, GID: -1}
		err := a.host.MkdirAll(filepath.Dir(x.Path), 0o755, owner)
		if err == nil {
			err = (&host.Local{Blob: a.download(p.URL)}).Fetch(ctx, x.SHA256, x.Path, 0o755, owner)
		}
		if err != nil {
			return hint("correct url and sha256 at "+p.Source.String(), "artifact %s from %s: %w; nothing was changed",
				name, from, err)
		}
	}
	return nil
}

// redacted is a URL without the password that may be in it.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "its url"
	}
	return u.Redacted()
}

// download opens a URL.
func (a *app) download(address string) func(context.Context, string) (io.ReadCloser, error) {
	return func(ctx context.Context, _ string) (io.ReadCloser, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		client := &http.Client{Transport: &http.Transport{DialContext: a.host.Dial, Proxy: http.ProxyFromEnvironment}}
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			response.Body.Close()
			return nil, fmt.Errorf("the server says %s", response.Status)
		}
		return response.Body, nil
	}
}

// neededPrograms are those that the containers with these ids need.
func neededPrograms(cfg *config.Config, ids []string) []string {
	var out []string
	for _, id := range ids {
		c, ok := cfg.Container(id)
		if ok && c.IsCA() {
			out = append(out, programCA)
		}
		if ok && c.IsProxy() {
			out = append(out, programProxy)
		}
	}
	return out
}

// complete fails where something that the containers with these ids need is not on this machine.
func complete(cfg *config.Config, m config.Machine, ids []string) error {
	for _, name := range neededPrograms(cfg, ids) {
		if _, ok := m.Artifacts[name]; !ok {
			return hint(fmt.Sprintf("install the package phoenix-artifacts, build it with make artifacts, or name it "+
				"in the "+
				"hypervisor file: \"artifacts\": {%q: {\"path\": \"/…\", \"sha256\": \"…\"}}", name),
				"artifact %s is not on this machine: %s has none", name, filepath.Join(m.Cache, "artifacts"))
		}
	}
	for _, id := range ids {
		c, _ := cfg.Container(id)
		if c == nil {
			continue
		}
		for _, name := range c.FeatureScripts() {
			if _, ok := m.Scripts[name]; !ok {
				return hint("put it beside the configuration, in ../bin, or in "+oldScripts+
					"; or correct the feature: phoenix knows "+strings.Join(config.Features, ", "),
					"container %s (%s) has a feature whose script %s was not found", id, c.Source, name)
			}
		}
		if c.OwnScript() == "" {
			continue
		}
		if _, ok := m.Scripts[c.OwnScript()]; !ok {
			return hint("put it beside the configuration, in ../bin, or in "+oldScripts,
				"application script %s of container %s (%s) was not found", c.OwnScript(), id, c.Source)
		}
	}
	return nil
}

// longestFirstLine is how many bytes of a script the kernel looks at (BINPRM_BUF_SIZE).
const longestFirstLine = 256

// findScripts finds the users' own application and feature scripts: where the hypervisor file says they are, beside the
// configuration, in ../bin of it, or where they were before phoenix. What is not here is left out.
func (a *app) findScripts(cfg *config.Config, directories []string, d *digests, m config.Machine) error {
	var places []string
	if dir := cfg.Hypervisor.CorePaths.ScriptsDirectory; dir != "" {
		places = append(places, dir)
	}
	for _, f := range directories {
		places = append(places, f, filepath.Join(f, "..", "bin"))
	}
	places = append(places, oldScripts)
	var names []string
	for _, c := range cfg.Containers {
		names = append(append(names, c.FeatureScripts()...), c.OwnScript())
	}
	for _, name := range names {
		if _, known := m.Scripts[name]; known || name == "" {
			continue
		}
		path, err := a.firstFile(places, name)
		if err != nil {
			return err
		}
		if path == "" {
			continue
		}
		sum, err := d.sum(path)
		if err != nil {
			return err
		}
		raw, err := a.host.ReadFile(path)
		if err != nil {
			return err
		}
		m.Scripts[name] = config.Artifact{Path: path, SHA256: sum, Flaw: flaw(raw)}
	}
	return nil
}

// flaw says why the kernel cannot run a file (execve(2)); empty: nothing speaks against it.
func flaw(content []byte) string {
	if bytes.HasPrefix(content, []byte("\x7fELF")) {
		return ""
	}
	line, _, _ := bytes.Cut(content[:min(len(content), longestFirstLine)], []byte("\n"))
	interpreter, is := bytes.CutPrefix(line, []byte("#!"))
	words := bytes.Fields(interpreter)
	switch {
	case !is:
		return "its first line does not begin with #! and an interpreter, such as #!/bin/sh"
	case bytes.HasSuffix(line, []byte("\r")):
		return `its lines end with a carriage return, as on Windows: sed -i 's/\r$//' takes them out`
	case len(words) == 0 || words[0][0] != '/':
		return "its first line names no interpreter by an absolute path, such as #!/bin/sh"
	}
	return ""
}

// firstFile is the file's absolute path in the first directory that has it; empty: none has.
func (a *app) firstFile(directories []string, name string) (string, error) {
	for _, dir := range directories {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(name) {
			path = filepath.Clean(name)
		}
		if m, err := a.host.Lstat(path); err == nil && !m.Mode.IsDir() {
			return path, nil
		}
	}
	return "", nil
}
