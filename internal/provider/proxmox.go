package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// ProxmoxWritable fails where Proxmox's configuration cannot be changed. Without quorum pct would remove disks and then fail to
// write down that they are gone.
func ProxmoxWritable(h host.Host, p spec.Proxmox) error {
	m, err := h.Lstat(filepath.Join(p.Dir, "local"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return PermanentHint(fmt.Errorf("proxmox's configuration is not at %s", p.Dir), "systemctl status pve-cluster")
	case err != nil:
		return PermanentHint(fmt.Errorf("proxmox's configuration cannot be looked at: %w", err), "systemctl status pve-cluster")
	case m.Mode.Perm()&0o200 == 0: // as PVE::Cluster::check_cfs_quorum looks
		return PermanentHint(errors.New("the cluster has no quorum: nothing was changed"), "pvecm status tells which nodes are away")
	}
	return nil
}

// ProxmoxHere fails where an id belongs to a container of another node, or to a virtual machine.
func ProxmoxHere(h host.Host, p spec.Proxmox, id string) error {
	raw, err := h.ReadFile(filepath.Join(p.Dir, ".vmlist"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list struct {
		IDs map[string]struct {
			Node string `json:"node"`
			Type string `json:"type"`
		} `json:"ids"`
	}
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return fmt.Errorf("the list of the cluster's containers cannot be read: %w", err)
	}
	found, own := list.IDs[id], ProxmoxNode(h, p)
	switch {
	case found.Type == "qemu":
		return PermanentHint(fmt.Errorf("%s is a virtual machine on node %s", id, found.Node), "give the container another id")
	case found.Node != "" && own != "" && found.Node != own:
		return PermanentHint(fmt.Errorf("container %s is on node %s, and this is %s: it was not touched", id, found.Node, own),
			fmt.Sprintf("run phoenix on %s, or there: pct migrate %s %s", found.Node, id, own))
	}
	return nil
}

// ProxmoxNode is this node's name; empty: nobody says.
func ProxmoxNode(h host.Host, p spec.Proxmox) string {
	if target, err := h.Readlink(filepath.Join(p.Dir, "local")); err == nil { // nodes/NAME
		return filepath.Base(target)
	}
	if target, err := h.Readlink(filepath.Join(p.Dir, "lxc")); err == nil { // nodes/NAME/lxc
		return filepath.Base(filepath.Dir(target))
	}
	return ""
}
