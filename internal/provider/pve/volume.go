package pve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Volume keeps the volumes of Proxmox's containers. It implements provider.Driver and provider.Deleter.
type Volume struct{}

// VolumeStatus is what was seen of a volume. Ids are the host's.
type VolumeStatus struct {
	Volume   string    `json:"volume"`             // local-zfs:subvol-103-disk-1
	Path     string    `json:"path"`               // on the hypervisor; empty: not known yet
	Recorded string    `json:"recorded,omitempty"` // the volume that the notes speak of
	UID      int       `json:"uid"`
	GID      int       `json:"gid"`
	Mode     spec.Mode `json:"mode"`
}

func checkVolume(diags *diag.List, v spec.Volume) {
	checkID(diags, v.Container)
	if v.Name == "" || v.Pool == "" || v.Proxmox == nil ||
		strings.ContainsFunc(v.Name+v.Pool, func(r rune) bool { return blank(r) || r == ':' || r == ',' || r == '/' }) {
		diags.Errorf("volume %q of container %s needs a name and a storage of Proxmox", v.Name, v.Container)
		return
	}
	checkPlace(diags, *v.Proxmox)
	if clean, fault := spec.ProxmoxVolumePath(v.MountPoint); fault != nil {
		diags.Errorf("volume %s: %s", v.Name, fault.Why)
	} else if clean != v.MountPoint {
		diags.Errorf("volume %s: %q is no clean path: write %s", v.Name, v.MountPoint, clean)
	}
	checkPath(diags, v.Path)
	if v.SizeBytes < 1<<20 {
		diags.Errorf("volume %s of container %s needs a size", v.Name, v.Container)
	}
}

// Decode implements provider.Driver.
func (Volume) Decode(raw json.RawMessage) (spec.Volume, diag.List) {
	v, diags := provider.Decode[spec.Volume](raw)
	if !diags.HasErrors() {
		checkVolume(&diags, v)
	}
	return v, diags
}

// Observe implements provider.Driver; nil: nothing is mounted at its path. It runs lxc-info where only a mounted file
// system shows who owns it.
func (Volume) Observe(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) (*VolumeStatus, error) {
	c, err := read(h, *v.Proxmox, v.Container)
	if c == nil || err != nil {
		return nil, err
	}
	key, have := c.mounted(v.MountPoint)
	if key == "" {
		return nil, nil
	}
	st := &VolumeStatus{Volume: have.word, UID: -1, GID: -1}
	r, ok := c.recorded(v)
	if !ok {
		return st, nil
	}
	st.Recorded = r.Volume
	if r.Volume != have.word {
		return st, nil
	}
	st.Path = r.Path
	return st, st.lookAt(ctx, h, v, r)
}

func (st *VolumeStatus) lookAt(ctx context.Context, h host.Host, v spec.Volume, r record) error {
	m, err := h.Lstat(r.Path)
	if err != nil && !present(h, r.Path) {
		return fmt.Errorf("volume %s of container %s: %w", r.Volume, v.Container, err)
	}
	if err != nil || !m.Mode.IsDir() { // an image or a device: its file system is seen where it is mounted
		pid, err := inside(v.Container).InitPID(ctx, h)
		if err != nil {
			return err
		}
		if pid == 0 {
			st.parse(v, r.Set)
			return nil
		}
		if m, err = h.Lstat(filepath.Join("/proc", strconv.Itoa(pid), "root", v.MountPoint)); err != nil {
			return err
		}
	}
	st.UID, st.GID, st.Mode = m.UID, m.GID, spec.ModeOf(m.Mode)
	return nil
}

// parse reads what the notes say was set, while nothing else tells.
func (st *VolumeStatus) parse(v spec.Volume, set string) {
	var uid, gid int
	var mode string
	if n, err := fmt.Sscanf(set, "%d:%d %s", &uid, &gid, &mode); n == 3 && err == nil &&
		st.Mode.UnmarshalText([]byte(mode)) == nil {
		st.UID, st.GID = v.IDMap.Outside(uid), v.IDMap.Outside(gid)
	}
}

func inside(id string) provider.Inside { return provider.Inside{ID: id} }

// Diff implements provider.Driver.
func (Volume) Diff(want spec.Volume, have *VolumeStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "nothing is mounted at " + want.MountPoint}
	}
	var d plan.Delta
	d.Compare("recorded", have.Recorded, have.Volume)
	if !d.Empty() {
		d.Reason = "the container's notes do not say that it is phoenix's"
		if have.Recorded != "" {
			d.Reason = "the container's notes speak of another volume"
		}
		return d
	}
	d.Compare("uid", strconv.Itoa(have.UID), strconv.Itoa(want.IDMap.Outside(want.UID)))
	d.Compare("gid", strconv.Itoa(have.GID), strconv.Itoa(want.IDMap.Outside(want.GID)))
	d.Compare("mode", fmt.Sprintf("%04o", have.Mode), fmt.Sprintf("%04o", want.Mode))
	return d
}

// Apply implements provider.Driver. The container's definition mounts its volumes; one that was lost since is mounted
// here.
func (k Volume) Apply(ctx context.Context, h host.Host, _ object.Address, v spec.Volume, _ plan.Delta) error {
	p := *v.Proxmox
	if err := provider.ProxmoxWritable(h, p); err != nil {
		return err
	}
	if err := attach(ctx, h, v); err != nil {
		return err
	}
	c, err := read(h, p, v.Container)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("container %s does not exist", v.Container)
	}
	key, have := c.mountedNow(v.MountPoint)
	if key == "" {
		return fmt.Errorf("nothing is mounted at %s of container %s", v.MountPoint, v.Container)
	}
	if err := replaced(ctx, h, c, v, key, have.word); err != nil {
		return err
	}
	r := record{Volume: have.word}
	if r.Path, err = volumePath(ctx, h, v.Container, have.word); err != nil {
		return err
	}
	if r.Set, err = own(ctx, h, v, r.Path); err != nil {
		return err
	}
	if err := edit(ctx, h, p, v.Container, func(c *conf) bool { return c.note(v, r) }); err != nil {
		return err
	}
	return forget(h, v)
}

// replaced fails where the volume that the notes speak of is gone and an empty one stands in its place: pct restore
// over a container makes new volumes, and destroys the old ones. What is not in the backup is lost then, and nobody
// would hear of it. One with something on it was moved or restored.
func replaced(ctx context.Context, h host.Host, c *conf, v spec.Volume, key, have string) error {
	r, ok := c.recorded(v)
	if !ok || r.Volume == have || present(h, r.Path) {
		return nil
	}
	path, err := volumePath(ctx, h, v.Container, have)
	if err != nil {
		return err
	}
	empty, err := isEmpty(ctx, h, v, path)
	if err != nil || !empty {
		return err
	}
	return provider.PermanentHint(
		fmt.Errorf("volume %s of %s is gone, and the empty volume %s is mounted at %s of container %s in its place: "+
			"a restore over a container destroys volumes that are "+
			"not in the backup", r.Volume, volumeAddress(v), have, v.MountPoint, v.Container),
		fmt.Sprintf("bring back what was on it into %s; to go on with the empty one: remove the line %q from the "+
			"container's notes", key, "phoenix: "+volumeAddress(v)+" …"))
}

// isEmpty looks into a volume, from inside of its container where it is an image. An image of a stopped container
// cannot be looked at, and counts as empty.
func isEmpty(ctx context.Context, h host.Host, v spec.Volume, path string) (bool, error) {
	if m, err := h.Lstat(path); err != nil || !m.Mode.IsDir() {
		pid, err := inside(v.Container).InitPID(ctx, h)
		if err != nil || pid == 0 {
			return true, err
		}
		path = filepath.Join("/proc", strconv.Itoa(pid), "root", v.MountPoint)
	}
	names, err := h.ReadDir(path)
	return len(slices.DeleteFunc(names, func(n string) bool { return n == "lost+found" })) == 0, err
}

// attach mounts the volume where nothing is mounted: the one that waits, else a new one.
func attach(ctx context.Context, h host.Host, v spec.Volume) error {
	c, err := read(h, *v.Proxmox, v.Container)
	if err != nil {
		return err
	}
	if c == nil || c.half() {
		return fmt.Errorf("container %s does not exist", v.Container)
	}
	known := map[string]record{}
	s := spec.Container{ID: v.Container, Guest: &spec.Guest{Proxmox: *v.Proxmox, Volumes: []spec.Volume{v}}}
	if r, ok := remembered(h, c, v); ok {
		known[volumeAddress(v)] = r
	}
	if err := ownVolumes(s, c, known); err != nil {
		return err
	}
	if len(mounts(s, c, known)) == 0 {
		return nil
	}
	if c, err = release(ctx, h, *v.Proxmox, v.Container, c); err != nil {
		return err
	}
	if err := adopt(ctx, h, c, s.Guest.Volumes, known); err != nil {
		return err
	}
	set, revert := arguments(mounts(s, c, known))
	if len(revert) > 0 {
		set = []string{"--revert", revert[0]}
	}
	if len(set) == 0 {
		return nil
	}
	if err := saveStarted(ctx, h, *v.Proxmox, v.Container); err != nil {
		return err
	}
	_, err = pct(ctx, h, v.Container, callLimit,
		append([]string{"set", v.Container, "--digest", c.digest()}, set...)...)
	return err
}

// note writes a record into the notes; false: it stands there.
func (c *conf) note(v spec.Volume, r record) bool {
	if old, ok := c.recorded(v); ok && old == r {
		return false
	}
	c.unnote(v)
	c.setDescription(append(c.current().description(), r.line(v)))
	return true
}

// unnote takes a volume's record out of the notes; false: there is none.
func (c *conf) unnote(v spec.Volume) bool {
	have := c.current().description()
	notes := slices.DeleteFunc(slices.Clone(have), func(n string) bool {
		_, same := parseRecord(v, n)
		return same
	})
	if len(notes) == len(have) {
		return false
	}
	c.setDescription(notes)
	return true
}

var anyPath = regexp.MustCompile(`^/\S+$`)

// volumePath asks Proxmox where a volume is. What it prints need not exist.
func volumePath(ctx context.Context, h host.Host, id, volume string) (string, error) {
	argv := []string{"pvesm", "path", volume}
	res, err := h.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return "", explain(id, res, err)
	}
	path := strings.TrimSpace(string(res.Stdout))
	if !anyPath.MatchString(path) {
		return "", host.Misread(argv, res, errors.New("no path"))
	}
	if !present(h, path) {
		return "", fmt.Errorf("volume %s of container %s is not where Proxmox says: there is no %s", volume, id, path)
	}
	return path, nil
}

func parentOf(path string) string { return filepath.Dir(path) }

// Delete implements provider.Deleter: what is on the volume is lost. Its container is stopped by then.
func (Volume) Delete(ctx context.Context, h host.Host, _ object.Address, v spec.Volume) error {
	c, err := read(h, *v.Proxmox, v.Container)
	if err != nil {
		return err
	}
	if c == nil || c.half() {
		return free(ctx, h, v)
	}
	if err := provider.ProxmoxWritable(h, *v.Proxmox); err != nil {
		return err
	}
	if c, err = release(ctx, h, *v.Proxmox, v.Container, c); err != nil {
		return err
	}
	if len(c.snapshots()) > 0 {
		if err := dropSnapshots(ctx, h, v.Container, c); err != nil {
			return err
		}
		if c, err = read(h, *v.Proxmox, v.Container); err != nil || c == nil {
			return err
		}
	}
	key, have := c.mountedNow(v.MountPoint)
	volume := have.word
	if key != "" {
		if _, err := pct(ctx, h, v.Container, callLimit, "set", v.Container, "--delete", key); err != nil {
			return err
		}
		if c, err = read(h, *v.Proxmox, v.Container); err != nil || c == nil {
			return err
		}
	} else if r, ok := c.recorded(v); ok {
		volume = r.Volume
	}
	key = c.unused(volume)
	switch {
	case volume == "":
	case key != "":
		_, err = pct(ctx, h, v.Container, callLimit, "set", v.Container, "--delete", key)
	case !c.names(volume) && belongsTo(volume, v.Container): // its file does not speak of it, and its notes do
		_, err = freeVolume(ctx, h, v.Container, volume)
	}
	if err != nil {
		return err
	}
	if err := edit(ctx, h, *v.Proxmox, v.Container, func(c *conf) bool { return c.unnote(v) }); err != nil {
		return err
	}
	return forget(h, v)
}

// free removes a volume that waits for its container.
func free(ctx context.Context, h host.Host, v spec.Volume) error {
	r, ok := remembered(h, nil, v)
	if ok {
		if err := provider.ProxmoxWritable(h, *v.Proxmox); err != nil {
			return err
		}
		if _, err := freeVolume(ctx, h, v.Container, r.Volume); err != nil {
			return err
		}
	}
	return forget(h, v)
}

func freeVolume(ctx context.Context, h host.Host, id, volume string) (host.Result, error) {
	res, err := h.Run(ctx, host.Command{Argv: []string{"pvesm", "free", volume}, Mutates: true, Limit: callLimit})
	return res, explain(id, res, err)
}
