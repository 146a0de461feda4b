package user

import (
	"path"
	"strconv"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

const noLogin = "/usr/sbin/nologin"

// Diff implements provider.Driver. Any shell that lets nobody in will do.
func (Driver) Diff(want spec.User, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the user does not exist"}
	}
	var d plan.Delta
	d.Compare("group", have.Group, want.Name)
	if want.UID != 0 {
		d.Compare("uid", strconv.Itoa(have.UID), strconv.Itoa(want.UID))
		d.Compare("gid", strconv.Itoa(have.GID), strconv.Itoa(want.UID))
	}
	if want.Home != "" {
		d.Compare("home", have.Home, want.Home)
	}
	if base := path.Base(have.Shell); base != "nologin" && base != "false" {
		d.Compare("shell", have.Shell, noLogin)
	}
	return d
}
