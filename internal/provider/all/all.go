// Package all is the one list of providers.
package all

import (
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/btrfs"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/certificate"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/dir"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/dns"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/file"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/firewall"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/lxc"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/network"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/nginx"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pkg"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/pve"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/script"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/stepca"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/subid"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sysctl"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/template"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/traefik"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/trust"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/unit"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/user"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/zfs"
)

// Drivers gives every driver by provider/kind.
func Drivers() map[string]provider.Erased {
	return map[string]provider.Erased{
		// On the hypervisor.
		"network/network":       network.New(),
		"network/port":          network.NewPort(),
		"dns/dns":               dns.New(),
		"subid/subid":           subid.New(),
		"sysctl/sysctl":         sysctl.New(),
		"template/template":     template.New(),
		"dir/volume":            dir.New(),
		"btrfs/volume":          btrfs.New(),
		"zfs/volume":            zfs.New(),
		"firewall/firewall":     firewall.New(),
		"firewall/hostfirewall": firewall.NewHostSide(),
		"firewall/access":       firewall.NewAccess(),
		"lxc/ids":               lxc.NewIDs(),
		"lxc/container":         lxc.NewContainer(),
		"lxc/running":           lxc.NewRunning(),
		"lxc/binary":            lxc.NewBinary(),
		"pve/storage":           pve.NewStorage(),
		"pve/template":          pve.NewTemplate(),
		"pve/ids":               pve.NewIDs(),
		"pve/container":         pve.NewContainer(),
		"pve/volume":            pve.NewVolume(),
		"pve/running":           pve.NewRunning(),
		"pve/snapshot":          pve.NewSnapshot(),
		"pve/firewall":          pve.NewFirewall(),
		"pve/node":              pve.NewNode(),
		"pve/binary":            lxc.NewBinary(), // lxc's tools find Proxmox's containers
		"trust/hosttrust":       provider.New(trust.Driver{}),
		"trust/pin":             provider.New(trust.PinDriver{}),

		// Inside a container.
		"user/user":               user.New(),
		"pkg/package":             pkg.New(),
		"file/file":               file.New(),
		"script/script":           script.New(),
		"certificate/certificate": certificate.New(),
		"trust/trust":             provider.New(trust.Driver{}),
		"stepca/stepca":           provider.New(stepca.Driver{}),
		"unit/unit":               unit.New(),
		"nginx/nginx":             nginx.New(),
		"traefik/traefik":         traefik.New(),
		"agent/agent":             provider.New(agent.Driver{}),
	}
}
