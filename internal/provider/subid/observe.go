package subid

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
)

// Observe implements provider.Driver. It runs no command.
func (d Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.IDMap) (*Status, error) {
	uid, err := read(h, d.subuid)
	if err != nil {
		return nil, err
	}
	gid, err := read(h, d.subgid)
	return &Status{UID: allows(uid, s), GID: allows(gid, s)}, err
}

func read(h host.Host, path string) (string, error) {
	b, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

func line(m spec.IDMap) string { return fmt.Sprintf("root:%d:%d", m.Base, m.Count) }

// allows reports whether one of root's lines holds all of the range.
func allows(file string, m spec.IDMap) bool {
	for line := range strings.Lines(file) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != "root" && f[0] != "0" {
			continue
		}
		base, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && base <= m.Base && m.Base+m.Count <= base+count {
			return true
		}
	}
	return false
}
