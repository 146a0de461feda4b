package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// The names of the users' files.
var fileNames = []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"}

// configLimit is the largest file of a configuration, in bytes: twelve thousand containers.
const configLimit = 4 << 20

// files are the configuration as it was read, and the directories it lies in.
type files struct {
	list        []config.File
	directories []string
	scripts     map[string]string // of a configuration that was applied: SHA-256 by name; nil: as they are now
}

// pinScripts has the users' scripts be those that were applied. One that was changed since is not here any more.
func (f files) pinScripts(found map[string]config.Artifact) {
	if f.scripts == nil {
		return
	}
	for name, script := range found {
		if sum, applied := f.scripts[name]; !applied {
			delete(found, name)
		} else if sum != script.SHA256 {
			found[name] = config.Artifact{SHA256: sum}
		}
	}
	for name, sum := range f.scripts {
		if _, known := found[name]; !known {
			found[name] = config.Artifact{SHA256: sum}
		}
	}
}

// readFiles reads what --config names. Each value is a directory or a file; a file with one of the usual names brings
// the other one that lies beside it.
func (a *app) readFiles() (files, error) {
	places := a.opts.config
	if len(places) == 0 {
		i := slices.IndexFunc(defaultConfig, func(dir string) bool { return len(a.usual(dir)) > 0 })
		if i < 0 {
			return files{}, problem("no configuration was found in "+strings.Join(defaultConfig, " or "),
				"--config DIR says where it is")
		}
		places = defaultConfig[i : i+1]
	}
	var f files
	var paths []string
	for _, p := range places {
		found, directory, err := a.place(p)
		if err != nil {
			return files{}, err
		}
		paths = append(paths, found...)
		f.directories = append(f.directories, directory)
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		data, err := a.host.ReadFile(p)
		if err == nil && len(data) > configLimit {
			err = &fs.PathError{Op: "read", Path: p, Err: fmt.Errorf("is larger than %d MiB", configLimit>>20)}
		}
		if err != nil {
			return files{}, problem(fmt.Sprintf("the configuration cannot be read: %v", err), unread(err))
		}
		f.list = append(f.list, config.File{Name: p, Data: data})
	}
	return f, nil
}

// unread is what to do about a file that cannot be read.
func unread(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "--config takes a directory with " + strings.Join(fileNames, " and ") + ", or the two files"
	case errors.Is(err, fs.ErrPermission):
		return "run it again with sudo"
	case errors.Is(err, syscall.EISDIR), host.NotAFile(err):
		return "a file should be there"
	}
	return ""
}

// place gives the files that one value of --config means, and their directory.
func (a *app) place(p string) (paths []string, directory string, err error) {
	p = filepath.Clean(p)
	if _, err := a.host.ReadDir(p); err == nil {
		if paths = a.usual(p); len(paths) == 0 {
			return nil, "", problem(fmt.Sprintf("%s has neither %s", p, strings.Join(fileNames, " nor ")),
				"name the two files, each with --config")
		}
		return paths, p, nil
	}
	directory = filepath.Dir(p)
	if slices.Contains(fileNames, filepath.Base(p)) && len(a.opts.config) == 1 {
		return append(a.usual(directory), p), directory, nil
	}
	return []string{p}, directory, nil
}

// usual lists the files with the usual names in a directory.
func (a *app) usual(directory string) []string {
	var out []string
	for _, name := range fileNames {
		p := filepath.Join(directory, name)
		if _, err := a.host.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			out = append(out, p)
		}
	}
	return out
}

// problem is bad configuration that is no line's fault.
func problem(summary, hint string) error {
	return &diag.ListError{List: diag.List{{Summary: summary, Hint: hint}}}
}
