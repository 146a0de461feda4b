package health

import (
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func idsCases() []runCase {
	own := spec.IDRange{ID: "101", Path: "/r/lxc", IDMap: spec.IDMap{Base: 1879113728, Count: 65536}, Claims: "/ids"}
	old := own
	old.Now = &idrange.Shared
	held := old
	held.Held = "end the migration"
	guest := own
	guest.Path, guest.Proxmox = "/etc/pve/lxc", &spec.Proxmox{Dir: "/etc/pve"}
	weak := own
	weak.Now = &spec.IDMap{}
	with := func(s spec.IDRange, file, line, target string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.put("/etc/passwd", 0o644, 0, 0, "root:x:0:0:::\nann:x:1000:1000:::\n")
			if file != "gone" {
				h.put("/r/lxc/101/config", 0o644, 0, 0, "")
				h.put("/etc/pve/lxc/101.conf", 0o644, 0, 0, "")
			}
			if file != "" && file != "gone" {
				h.put(file, 0o644, 0, 0, line+"\n")
			}
			if target != "" {
				h.links["/ids/1879113728"] = target
			}
			return s
		}
	}
	return []runCase{
		{kindOwnIDs, "own", with(own, "", "", "/r/lxc/101"), Pass, "1879113728:65536"},
		{kindOwnIDs, "root's line", with(own, "/etc/subuid", "root:1879048192:268304384", "/r/lxc/101"), Pass,
			"1879113728"},
		{kindOwnIDs, "a user's", with(own, "/etc/subuid", "ann:1879113728:1", "/r/lxc/101"), Fail,
			"ann's (/etc/subuid:1)"},
		{kindOwnIDs, "a group's", with(own, "/etc/group", "staff:x:1879113800:", "/r/lxc/101"), Fail,
			"staff's (/etc/group:1)"},
		{kindOwnIDs, "nobody says so", with(own, "", "", ""), Fail, "is not there"},
		{kindOwnIDs, "no container", with(own, "gone", "", ""), Skip, "there is no container"},
		{kindOwnIDs, "another's", with(own, "", "", "/s/lxc/101"), Fail, "/s/lxc/101"},
		{kindOwnIDs, "shared", with(old, "", "", ""), Fail, "100000:65536"},
		{kindOwnIDs, "Debian's first user", with(old, "/etc/subgid", "ann:100000:65536", ""), Fail,
			"ann's (/etc/subgid:1)"},
		{kindOwnIDs, "a migration is under way", with(held, "", "", ""), Pass, "end the migration"},
		{kindOwnIDs, "a user's during it", with(held, "/etc/subgid", "ann:100000:65536", ""), Fail, "ann's"},
		{kindOwnIDs, "Proxmox's", with(guest, "", "", "/etc/pve/lxc/101"), Pass, "1879113728:65536"},
		{kindOwnIDs, "Proxmox's, nobody says so", with(guest, "", "", ""), Fail, "is not there"},
		{kindOwnIDs, "Proxmox's, no container", with(guest, "gone", "", ""), Skip, "there is no container"},
		{kindOwnIDs, "privileged", with(weak, "", "", ""), Fail, "no id map"},
	}
}
