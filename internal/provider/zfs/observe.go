package zfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Status is what was seen of a dataset. The directory is the one it is mounted as; it is empty while it is not mounted.
type Status struct {
	provider.Directory
	Dataset    string `json:"dataset"`
	Refquota   int64  `json:"refquota"` // bytes; 0: none
	Used       int64  `json:"used"`     // bytes that it refers to
	Mountpoint string `json:"mountpoint"`
	CanMount   string `json:"canmount"`
	Mounted    bool   `json:"mounted"` // at its volume's path
}

// seen are a volume's dataset and the one that was put aside when it was deleted last; nil: there is none.
type seen struct{ own, aside properties }

// properties are a dataset's, by name. User properties are its own, not inherited.
type properties map[string]string

// Observe implements provider.Driver. It runs zfs once for all volumes of a pool that are looked at together. A dataset
// that is not marked as this volume is a permanent error.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) (*Status, error) {
	s, err := look(ctx, h, v)
	if err != nil {
		return nil, err
	}
	return s.status(h, v)
}

// asked are the properties that are read. One call for a pool: -d 1 is what is directly in it.
const asked = "type,refquota,referenced,mountpoint,canmount," + volumeProperty + "," + pathProperty

func look(ctx context.Context, h host.Host, v spec.Volume) (seen, error) {
	argv := []string{"zfs", "get", "-Hp", "-d", "1", "-t", "filesystem,volume", "-o", "name,property,value,source",
		asked, v.Pool}
	res, err := h.Run(ctx, host.Command{Argv: argv, Shared: true})
	if err != nil && strings.Contains(string(res.Stderr), "does not exist") {
		return seen{}, provider.PermanentHint(fmt.Errorf("pool %s is not here now: %w", v.Pool, err),
			"zpool import, or name another pool in the file")
	}
	if err != nil {
		return seen{}, explain(res, err)
	}
	var s seen
	for line := range strings.Lines(string(res.Stdout)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			return seen{}, host.Misread(argv, res, fmt.Errorf("line %q has not four columns", line))
		}
		switch f[0] {
		case dataset(v):
			s.own = s.own.with(f)
		case asideOf(v):
			s.aside = s.aside.with(f)
		}
	}
	return s, nil
}

func (p properties) with(f []string) properties {
	if p == nil {
		p = properties{}
	}
	if strings.Contains(f[1], ":") && strings.HasPrefix(f[3], "inherited") {
		f[2] = "-"
	}
	p[f[1]] = f[2]
	return p
}

// owned checks that a dataset is this volume's.
func (p properties) owned(v spec.Volume, name string) error {
	if p == nil || p[volumeProperty] == markOf(v) && p[pathProperty] == v.Path {
		return nil
	}
	handOver := fmt.Sprintf("to hand it over: zfs set %s=%s %s=%s %s", volumeProperty, markOf(v), pathProperty,
		v.Path, name)
	switch {
	case p["type"] != "filesystem":
		return provider.PermanentHint(fmt.Errorf("%s is there and is a %s, not a file system", name, p["type"]),
			"rename or destroy it by hand")
	case p[volumeProperty] == markOf(v):
		return provider.PermanentHint(fmt.Errorf("%s is the volume at %s of another phoenix root", name,
			p[pathProperty]),
			"name another dataset as the pool; "+handOver)
	case p[volumeProperty] != "-":
		return provider.PermanentHint(fmt.Errorf("%s is marked as %s, not as %s", name, p[volumeProperty], markOf(v)),
			handOver)
	}
	return provider.PermanentHint(fmt.Errorf("%s is there and is not phoenix's: it has no property %s", name,
		volumeProperty), handOver)
}

func (s seen) status(h host.Host, v spec.Volume) (*Status, error) {
	if err := s.own.owned(v, dataset(v)); err != nil {
		return nil, err
	}
	mounted, err := mountedAt(h, v.Path)
	if err != nil {
		return nil, err
	}
	if mounted != "" && mounted != dataset(v) {
		return nil, provider.PermanentHint(fmt.Errorf("%s is mounted at %s, where %s belongs", mounted, v.Path,
			dataset(v)),
			"stop the container and unmount it; what is on it can be taken over: zfs send, zfs receive")
	}
	if mounted == "" {
		if err := uncovered(h, v); err != nil {
			return nil, err
		}
	}
	if s.own == nil {
		return nil, nil
	}
	st := &Status{Dataset: dataset(v), Mountpoint: s.own["mountpoint"], CanMount: s.own["canmount"],
		Mounted: mounted != ""}
	var bad1, bad2 error
	st.Refquota, bad1 = strconv.ParseInt(s.own["refquota"], 10, 64)
	st.Used, bad2 = strconv.ParseInt(s.own["referenced"], 10, 64)
	if err := errors.Join(bad1, bad2); err != nil {
		return nil, fmt.Errorf("zfs get: a size of %s is not understood: %w", dataset(v), err)
	}
	if st.Mounted {
		err = st.see(h, v)
	}
	return st, err
}

func (st *Status) see(h host.Host, v spec.Volume) error {
	f, err := provider.SeeDirectory(h, v)
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("%s went away while it was looked at", v.Path)
	}
	st.Directory, st.Address = *f, provider.DirectoryAddress(v)
	return nil
}

// mountedAt is what is mounted at a path, by the kernel's list (proc_pid_mountinfo(5)); the last one covers the others.
func mountedAt(h host.Host, path string) (source string, err error) {
	raw, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(raw)) {
		left, right, _ := strings.Cut(line, " - ")
		f, end := strings.Fields(left), strings.Fields(right)
		if len(f) > 4 && len(end) > 1 && host.Unescape(f[4]) == path {
			source = host.Unescape(end[1])
		}
	}
	return source, nil
}

// uncovered refuses to mount over what is in the directory: it would be hidden, and the volume would seem to be empty.
func uncovered(h host.Host, v spec.Volume) error {
	names, err := h.ReadDir(v.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(names) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return provider.PermanentHint(fmt.Errorf("%s holds files (%s), which %s would hide", v.Path, names[0], dataset(v)),
		fmt.Sprintf("stop container %s, mv %s away, apply, and copy its content back", v.Container, v.Path))
}
