package provider

import (
	"context"
	"crypto/sha1" // Proxmox's own digest of a file; it guards against accidents, not attackers
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// ProxmoxWritable fails where Proxmox's configuration cannot be changed. Without quorum pct would remove disks and then
// fail to write down that they are gone.
func ProxmoxWritable(h host.Host, p spec.Proxmox) error {
	m, err := h.Lstat(filepath.Join(p.Dir, "local"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return PermanentHint(fmt.Errorf("proxmox's configuration is not at %s", p.Dir), "systemctl status pve-cluster")
	case err != nil:
		return PermanentHint(fmt.Errorf("proxmox's configuration cannot be looked at: %w", err),
			"systemctl status pve-cluster")
	case m.Mode.Perm()&0o200 == 0: // as PVE::Cluster::check_cfs_quorum looks
		return PermanentHint(errors.New("the cluster has no quorum: nothing was changed"),
			"pvecm status tells which nodes are away")
	}
	return nil
}

// ProxmoxElsewhere is the node of the cluster that a container is on; empty: it is on this one, or on none.
func ProxmoxElsewhere(h host.Host, p spec.Proxmox, id string) string {
	if _, err := h.Lstat(filepath.Join(p.Dir, "lxc", id+".conf")); err == nil {
		return ""
	}
	list, err := proxmoxGuests(h, p)
	if own := ProxmoxNode(h, p); err == nil && own != "" && list[id].Type == "lxc" && list[id].Node != own {
		return list[id].Node
	}
	return ""
}

// proxmoxGuest is where one of the cluster's guests is.
type proxmoxGuest struct {
	Node string `json:"node"`
	Type string `json:"type"` // lxc or qemu
}

// proxmoxGuests are all guests of the cluster, by id. The file is read as a whole: a stat of it alone may be a
// second old.
func proxmoxGuests(h host.Host, p spec.Proxmox) (map[string]proxmoxGuest, error) {
	raw, err := h.ReadFile(filepath.Join(p.Dir, ".vmlist"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list struct {
		IDs map[string]proxmoxGuest `json:"ids"`
	}
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("the list of the cluster's containers cannot be read: %w", err)
	}
	return list.IDs, nil
}

// ProxmoxHere fails where an id belongs to a container of another node, or to a virtual machine.
func ProxmoxHere(h host.Host, p spec.Proxmox, id string) error {
	list, err := proxmoxGuests(h, p)
	if err != nil {
		return err
	}
	found, own := list[id], ProxmoxNode(h, p)
	switch {
	case found.Type == "qemu":
		return PermanentHint(fmt.Errorf("%s is a virtual machine on node %s", id, found.Node),
			"give the container another id")
	case found.Node != "" && own != "" && found.Node != own:
		return PermanentHint(fmt.Errorf("container %s is on node %s, and this is %s: it was not touched", id,
			found.Node, own),
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

// replaceScript replaces the file $2 by what comes in, under the lock $1, unless its digest is not $3 any more (none:
// there is no such file). Proxmox takes the same steps with a container's file; there is no other way to write a raw
// option. What comes in must have the digest $4: a phoenix that is killed closes the pipe, and half a file ends like a
// whole one.
const replaceScript = `set -e
[ -e "$5/local" ] || { echo "proxmox's configuration is not at $5" >&2; exit 1; }
mkdir -p "${1%/*}" "${2%/*}"
exec 9>"$1"
flock --timeout 10 9 || { echo "can't lock file '$1' - got timeout" >&2; exit 1; }
now=none
[ ! -e "$2" ] || now=$(sha1sum <"$2" | cut -d" " -f1)
[ "$now" = "$3" ] || { echo "detected modified configuration - file changed by other user? Try again." >&2; exit 1; }
trap 'rm -f "$2.tmp.$$"' EXIT
cat >"$2.tmp.$$"
[ "$(sha1sum <"$2.tmp.$$")" = "$4  -" ] || { echo "the new configuration came only in part" >&2; exit 1; }
mv "$2.tmp.$$" "$2"
trap - EXIT`

const (
	proxmoxCall  = 5 * time.Minute
	monitorLimit = 60 * time.Second
	monitorPoll  = 500 * time.Millisecond // a call of pct takes longer
)

var runsAlready = regexp.MustCompile(`CT \d+ already running`)

// ProxmoxStart starts a container. For Proxmox one runs until its monitor has ended, which does what is left to do
// after the end of its init. Nothing was started then, and nothing will be: it is asked again.
func ProxmoxStart(ctx context.Context, h host.Host, id string) (host.Result, error) {
	stoppable, end := Stoppable(ctx)
	defer end()
	waiting, cancel := context.WithTimeout(stoppable, monitorLimit)
	defer cancel()
	for {
		res, err := h.Run(ctx, host.Command{Argv: []string{"pct", "start", id}, Mutates: true, Limit: proxmoxCall})
		if err == nil || !runsAlready.Match(res.Stderr) && !runsAlready.Match(res.Stdout) {
			return res, err
		}
		if pid, ierr := (Inside{ID: id}).InitPID(ctx, h); ierr == nil && pid != 0 {
			return res, nil // another was quicker
		}
		select {
		case <-waiting.Done():
			if stoppable.Err() != nil {
				return res, fmt.Errorf("its monitor has not ended, and is not waited for: %w", context.Cause(stoppable))
			}
			return res, fmt.Errorf("its monitor does not end: %w", err)
		case <-time.After(monitorPoll):
		}
	}
}

// ProxmoxMaking is the file that stands while phoenix makes a container.
func ProxmoxMaking(p spec.Proxmox, id string) string {
	return filepath.Join(p.Dir, "phoenix", "making", id)
}

// ProxmoxDigest is Proxmox's digest of a file with that text.
func ProxmoxDigest(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// ReplaceProxmox replaces a file below /etc/pve whole, under a lock. was is what it is thought to hold, nil that it is
// not there: where it holds something else by now, it fails with Proxmox's own words and changes nothing. While pmxcfs
// is away nothing is written: it does not mount over a directory that is not empty.
func ReplaceProxmox(ctx context.Context, h host.Host, p spec.Proxmox, lock, path string, was *string,
	now string) (host.Result, error) {
	if err := ProxmoxWritable(h, p); err != nil {
		return host.Result{}, err
	}
	before := "none"
	if was != nil {
		before = ProxmoxDigest(*was)
	}
	return h.Run(ctx, host.Command{
		Argv:  []string{"sh", "-c", replaceScript, "sh", lock, path, before, ProxmoxDigest(now), p.Dir},
		Stdin: []byte(now), Mutates: true,
	})
}

// ProxmoxLock is the file that Proxmox locks while it changes a container's configuration.
func ProxmoxLock(p spec.Proxmox, id string) string {
	return filepath.Join(p.Locks, "lxc", "pve-config-"+id+".lock")
}
