package user

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Status is a user as the system's files have it.
type Status struct {
	UID   int    `json:"uid"`
	GID   int    `json:"gid"`
	Group string `json:"group"` // name of the group with that GID; empty: there is none
	Home  string `json:"home"`
	Shell string `json:"shell"`
}

// Observe implements provider.Driver. It reads passwd(5) and group(5) and runs nothing.
func (Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.User) (*Status, error) {
	f, err := find(h, "/etc/passwd", 7, func(f []string) bool { return f[0] == s.Name })
	if err != nil || f == nil {
		return nil, err
	}
	st := &Status{Home: f[5], Shell: f[6]}
	var uidErr, gidErr error
	st.UID, uidErr = strconv.Atoi(f[2])
	st.GID, gidErr = strconv.Atoi(f[3])
	if uidErr != nil || gidErr != nil {
		return nil, provider.Permanent(fmt.Errorf("/etc/passwd: ids of %s cannot be read: %s:%s", s.Name, f[2], f[3]))
	}
	if st.UID == 0 {
		return nil, provider.PermanentHint(fmt.Errorf("user %s has uid 0", s.Name),
			"a system user must not be root: remove it or give it another uid")
	}
	group, err := find(h, "/etc/group", 4, func(g []string) bool { return g[2] == f[3] })
	if group != nil {
		st.Group = group[0]
	}
	return st, err
}

// find returns the first line with that many fields that match likes; nil: none.
func find(h host.Host, path string, fields int, match func([]string) bool) ([]string, error) {
	b, err := h.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(f) == fields && match(f) {
			return f, nil
		}
	}
	return nil, nil
}
