package user

import (
	"context"
	"fmt"
	"strconv"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver. The group comes first, so that a kill leaves either no user or one that lacks
// nothing.
func (Driver) Apply(ctx context.Context, h host.Host, _ object.Address, want spec.User, d plan.Delta) error {
	run := func(argv ...string) error {
		_, err := h.Run(ctx, host.Command{Argv: append(argv, want.Name), Mutates: true})
		return err
	}
	if err := free(h, want); err != nil {
		return err
	}
	group, err := find(h, "/etc/group", 4, func(g []string) bool { return g[0] == want.Name })
	if err != nil {
		return err
	}
	id := strconv.Itoa(want.UID)
	switch {
	case group == nil && want.UID != 0:
		err = run("groupadd", "--system", "--gid", id)
	case group == nil:
		err = run("groupadd", "--system")
	case want.UID != 0 && group[2] != id:
		err = run("groupmod", "--gid", id)
	}
	if err != nil {
		return err
	}
	if d.Action == plan.Create {
		argv := []string{"useradd", "--system", "--gid", want.Name, "--no-create-home", "--shell", noLogin}
		if want.UID != 0 {
			argv = append(argv, "--uid", id)
		}
		if want.Home != "" {
			argv = append(argv, "--home-dir", want.Home)
		}
		return run(argv...)
	}
	argv := []string{"usermod", "--gid", want.Name}
	if d.Has("uid") {
		argv = append(argv, "--uid", id)
	}
	if d.Has("home") {
		argv = append(argv, "--home", want.Home)
	}
	if d.Has("shell") {
		argv = append(argv, "--shell", noLogin)
	}
	return run(argv...)
}

// free fails where another user or group has the id that want must have: files on a volume would be theirs.
func free(h host.Host, want spec.User) error {
	if want.UID == 0 {
		return nil
	}
	id := strconv.Itoa(want.UID)
	for path, fields := range map[string]int{"/etc/passwd": 7, "/etc/group": 4} {
		other, err := find(h, path, fields, func(f []string) bool { return f[2] == id && f[0] != want.Name })
		if err != nil {
			return err
		}
		if other != nil {
			return provider.PermanentHint(fmt.Errorf("%s: id %s, which %s must have, is that of %s", path, id,
				want.Name, other[0]),
				"give "+other[0]+" another id, or use a template in which "+id+" is free")
		}
	}
	return nil
}
