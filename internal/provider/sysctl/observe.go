package sysctl

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Observe implements provider.Driver. It runs no command.
func (d Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Sysctl) (*Status, error) {
	st := &Status{Now: map[string]int64{}, Others: map[string]int64{}}
	for _, l := range s.Least {
		raw, err := h.ReadFile(d.file(l.Key))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if v, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			st.Now[l.Key] = v
		}
	}
	own, found, err := read(h, s.Path)
	if err != nil {
		return nil, err
	}
	if found {
		st.File, st.Own = own, parse(own)
	}
	return st, d.others(h, s, st.Others)
}

func (d Driver) file(key string) string {
	return filepath.Join(d.proc, strings.ReplaceAll(key, ".", "/"))
}

// others collects what all files but phoenix's set, in the order in which they are read at a boot.
func (d Driver) others(h host.Host, s spec.Sysctl, into map[string]int64) error {
	path := map[string]string{} // by name: a name counts once, in its first directory
	for _, dir := range d.dirs {
		names, err := h.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, name := range names {
			if _, hidden := path[name]; !hidden && strings.HasSuffix(name, ".conf") {
				path[name] = filepath.Join(dir, name)
			}
		}
	}
	files := make([]string, 0, len(path)+1)
	for name := range path {
		files = append(files, name)
	}
	slices.Sort(files)
	for i, name := range files {
		files[i] = path[name]
	}
	for _, file := range append(files, d.conf) {
		if file == s.Path {
			continue
		}
		text, _, err := read(h, file)
		if err != nil {
			return err
		}
		for key, value := range parse(text) {
			into[key] = value
		}
	}
	return nil
}

func read(h host.Host, file string) (text string, found bool, err error) {
	b, err := h.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) { // a link that leads nowhere too
		return "", false, nil
	}
	return string(b), err == nil, err
}

// parse reads the numbers that a file of sysctl.d(5) sets.
func parse(text string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		key = strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(key), "-"), "/", ".")
		if v, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
			out[key] = v
		}
	}
	return out
}
