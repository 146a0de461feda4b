package cli

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// zfsHost has a zfs that says what OpenZFS 2.1.11 said.
type zfsHost struct {
	host.Host
	device    bool
	out, said string
	calls     []string
}

func (z *zfsHost) Lstat(path string) (host.Meta, error) {
	if path == zfsDevice && z.device || path == "/mnt/fast" {
		return host.Meta{Mode: fs.ModeDir}, nil
	}
	return host.Meta{}, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
}

func (z *zfsHost) Run(_ context.Context, c host.Command) (host.Result, error) {
	z.calls = append(z.calls, host.Quote(c.Argv))
	res := host.Result{Stdout: []byte(z.out), Stderr: []byte(z.said)}
	if z.said != "" {
		return res, &host.RunError{Argv: c.Argv, Output: z.said, Code: 1, Cause: errors.New("exit status 1")}
	}
	return res, nil
}

func TestPoolsThatAreZFS(t *testing.T) {
	names := map[string][]string{"tank": {"tank"}, "quickOS-certs": {"quickOS-certs", "quickOS/certs"}, "a:b": {"a:b"},
		"/mnt/fast": {}, "/gone": {}}
	const mounts = "22 1 254:0 / / rw - ext4 /dev/a rw\n23 22 254:1 / /mnt rw - btrfs /dev/b rw\n"
	for what, c := range map[string]struct {
		host zfsHost
		want map[string]string // datasets
		err  string
	}{
		"no ZFS here": {host: zfsHost{}, want: map[string]string{}},
		"some": {host: zfsHost{device: true, out: "tank\nquickOS/certs\n",
			said: "cannot open 'a:b': dataset does not exist\ncannot open 'quickOS-certs': dataset does not exist\n"},
			want: map[string]string{"tank": "tank", "quickOS-certs": "quickOS/certs"}},
		"a volume": {host: zfsHost{device: true, said: "cannot open 'tank': operation not applicable to datasets " +
			"of this type\n"}, want: map[string]string{}},
		"no modules": {host: zfsHost{device: true, said: "The ZFS modules cannot be auto-loaded.\n"},
			err: "cannot be auto-loaded"},
	} {
		t.Run(what, func(t *testing.T) {
			a := &app{host: &c.host}
			m := config.Machine{Pools: map[string]string{}, Datasets: map[string]string{}}
			err := a.observePools(names, mounts, &m)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v", err)
			}
			if c.err == "" && !maps.Equal(m.Datasets, c.want) {
				t.Errorf("%v", m.Datasets)
			}
			if m.Pools["/mnt/fast"] != "btrfs" || m.Pools["/gone"] != "" {
				t.Errorf("paths: %v", m.Pools)
			}
			for pool := range m.Datasets {
				if m.Pools[pool] != "zfs" {
					t.Errorf("%s: provider %q", pool, m.Pools[pool])
				}
			}
			if n := len(c.host.calls); n > 1 || !c.host.device && n > 0 {
				t.Errorf("calls: %v", c.host.calls)
			}
		})
	}
}
