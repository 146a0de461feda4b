package pve

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// haLimit is how long Proxmox's high availability may take: pct only asks for a start or a stop, and two daemons with
// rounds of ten seconds see to it.
const haLimit = 2 * time.Minute

// highlyAvailable tells whether a container is a resource of Proxmox's high availability.
func highlyAvailable(h host.Host, p spec.Proxmox, id string) bool {
	raw, err := h.ReadFile(filepath.Join(p.Dir, "ha", "resources.cfg"))
	return err == nil && slices.Contains(strings.Split(string(raw), "\n"), "ct: "+id)
}

// refuseAvailable fails, before anything is touched, where pct destroy would refuse after the container was stopped.
func refuseAvailable(h host.Host, p spec.Proxmox, id string) error {
	if !highlyAvailable(h, p, id) {
		return nil
	}
	return provider.PermanentHint(fmt.Errorf("container %s is a resource of Proxmox's high availability, which "+
		"starts it again: nothing was changed", id),
		"ha-manager remove ct:"+id+", then again")
}

// refuseProtected fails where the container is protected.
func refuseProtected(c *conf, id string) error {
	if c.current().get("protection") != "1" {
		return nil
	}
	return provider.PermanentHint(fmt.Errorf("container %s is protected: nothing was changed", id),
		"pct set "+id+" --protection 0, if you are sure")
}
