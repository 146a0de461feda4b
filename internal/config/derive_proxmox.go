package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Snapshots that are taken where enable_lifecycle_snapshots says so.
const (
	preConfigured = "pre-configured" // the container is defined, and has never run
	finalForm     = "final-form"     // all that phoenix keeps true is so
)

// proxmox reports whether containers are Proxmox's.
func (d *derivation) proxmox() bool { return d.machine.Proxmox != nil }

// storage is the one that a pool's name leads to: itself where it is here, else the first that takes containers.
func (d *derivation) storage(src object.Source, pool, what string) Storage {
	var first *Storage
	for i, s := range d.machine.Storages {
		if !s.takes() {
			continue
		}
		if s.ID == pool {
			return s
		}
		if first == nil {
			first = &d.machine.Storages[i]
		}
	}
	if first == nil {
		d.once(diag.Error, src, "no storage of this Proxmox host takes containers",
			"pvesm set STORAGE --content rootdir")
		return Storage{}
	}
	if pool != "" {
		d.note(diag.Note, src, fmt.Sprintf("storage %s is not on this machine; %s is on %s", pool, what, first.ID), "")
	}
	return *first
}

// once tells something that may be met for many containers.
func (d *derivation) once(severity diag.Severity, src object.Source, summary, hint string) {
	if !slices.ContainsFunc(d.diags, func(x diag.Diagnostic) bool { return x.Summary == summary }) {
		d.note(severity, src, summary, hint)
	}
}

// guestDefinition is a container as Proxmox has it. Its volumes are added by guestVolumes.
func (d *derivation) guestDefinition(c *Container) (spec.Container, Storage) {
	s := d.definition(c)
	storage := d.storage(c.Source, c.StoragePool, "the root file system of "+c.ID)
	s.Guest = &spec.Guest{
		Proxmox: *d.machine.Proxmox, Storage: storage.ID, SizeGB: c.StorageSizeGB, BootDelay: c.BootDelay,
		Features: d.features(c), Devices: d.devices(c), Listed: c.has("devices"),
		Firewall: !d.house.templates[c.ID], Gone: d.machine.Gone,
		Records: d.records(c),
	}
	for _, x := range d.given(c) {
		if x.Missing {
			s.Guest.Missing = append(s.Guest.Missing, x.Path)
		} else if !slices.Contains(s.Guest.Devices, x.Path) {
			s.Guest.Devices = append(s.Guest.Devices, x.Path)
		}
	}
	if s.Guest.SizeGB == 0 {
		s.Guest.SizeGB = 8 // GiB; a Debian with all that the three need takes two
	}
	if c.CloneFrom == "" {
		s.Guest.Archive = d.archive(c)
	} else {
		s.Guest.CloneFrom = c.CloneFrom
	}
	return s, storage
}

// records is where it is written down which volumes wait for a container.
func (d *derivation) records(c *Container) string { return path.Join(d.machine.Root, "volumes", c.ID) }

// archive is how pct finds a template archive: by its storage where it lies in one, else by its path.
func (d *derivation) archive(c *Container) string {
	if d.archiveAbsent(c) && !d.house.templates[c.ID] {
		d.note(diag.Warning, c.source("template"), fmt.Sprintf("template archive %s is not on this machine", c.Template),
			"pveam available lists those that can be had, pveam download gets one")
	}
	if storedArchive.MatchString(c.Template) {
		return c.Template // of a storage without files pct says whether it is there
	}
	for _, s := range d.machine.Storages {
		cache := path.Join(s.Path, "template", "cache")
		if s.Path != "" && d.machine.Present[c.Template] && path.Dir(c.Template) == cache &&
			slices.Contains(s.Content, "vztmpl") {
			return s.ID + ":vztmpl/" + path.Base(c.Template)
		}
	}
	return c.Template
}

// archiveAbsent reports whether an archive is certainly not on this machine.
func (d *derivation) archiveAbsent(c *Container) bool {
	return d.templateHere(c) == "" && TemplateFile(c.Template, d.machine.Storages) != ""
}

// guestTemplate adds a container that is only cloned from.
func (d *derivation) guestTemplate(c *Container) {
	s, storage := d.guestDefinition(c)
	s.StartAtBoot = false
	t := spec.Template{ID: c.ID, Snapshot: d.snapshotOf(c, storage), Definition: &s}
	if s.Guest.CloneFrom == "" && d.archiveAbsent(c) {
		t.Suite, t.Dir, t.Cache, t.Packages = d.built(c), path.Join(d.machine.Root, "templates"), d.machine.Cache,
			d.house.packages[c.ID]
		s.Guest.Archive = ""
	}
	d.add(on(c, spec.KindTemplate, "pve"), t)
}

// snapshotOf is the snapshot that containers are cloned from; empty: from the container as it is.
func (d *derivation) snapshotOf(c *Container, storage Storage) string {
	if c.SnapshotName != "" && !storage.snapshots() {
		d.note(diag.Note, c.Source, fmt.Sprintf("storage %s takes no snapshots; clones of container %s are made from "+
			"it as it is", storage.ID, c.ID), "")
		return ""
	}
	return c.SnapshotName
}

// guest adds all of a container.
func (d *derivation) guest(c *Container) {
	s, storage := d.guestDefinition(c)
	p := *d.machine.Proxmox
	var after []object.Address
	if source, ok := d.cfg.Container(c.CloneFrom); ok {
		after = append(after, d.source(c, source, &s))
	}
	ids, first := d.ownIDs(c)
	volumes, directories := d.guestVolumes(c, &s, ids, first)
	d.setIDs(c, ids)
	definition := d.add(on(c, spec.KindContainer, "pve"), s, append(append(after, first), directories...)...)
	need := []object.Address{definition}
	for _, v := range volumes {
		o := on(c, spec.KindVolume, "pve", v.Name)
		need = append(need, d.add(o, v, definition))
	}
	lifecycle := c.Snapshots && storage.snapshots()
	if c.Snapshots && !lifecycle {
		d.note(diag.Note, c.Source, fmt.Sprintf("storage %s takes no snapshots: container %s gets none", storage.ID,
			c.ID), "")
	}
	if lifecycle {
		need = append(need, d.snapshot(c, preConfigured, "before its first start", need))
	}
	need = append(need, d.firewall(c, definition, d.node))
	check, again := c.HealthCheck.check()
	running := d.add(on(c, spec.KindRunning, "pve"),
		d.listens(spec.Running{ID: c.ID, Proxmox: &p, Check: check, Again: again}, c), append(need, d.network(c)...)...)
	d.add(on(c, spec.KindBinary, "pve"),
		spec.Binary{ID: c.ID, Source: d.machine.Binary.Path, SHA256: d.machine.Binary.SHA256, Target: AgentBinary},
		running)
	d.inside(c)
	var names []string
	if lifecycle {
		names = append(names, finalForm)
	}
	if name := d.snapshotOf(c, storage); name != "" && !slices.Contains(names, name) {
		names = append(names, name)
	}
	for _, name := range names {
		d.snapshot(c, name, "all that phoenix keeps true was so", d.allOf(c))
	}
}

// source is what must be true before a container is cloned: the template, or the other container's snapshot.
func (d *derivation) source(c, from *Container, s *spec.Container) object.Address {
	if c.Unprivileged != from.Unprivileged {
		d.note(diag.Error, c.Source, fmt.Sprintf("container %s and %s, which it is cloned from, are not both "+
			"unprivileged", c.ID, from.ID),
			"a clone is what its source is: give both the same value of unprivileged")
	}
	storage := d.quietStorage(from.StoragePool)
	if from.SnapshotName != "" && storage.snapshots() {
		s.Guest.Snapshot = from.SnapshotName
	}
	switch {
	case d.house.templates[from.ID]:
		return object.NewAddress(spec.KindTemplate, from.ID)
	case s.Guest.Snapshot != "":
		return object.NewAddress(spec.KindSnapshot, from.ID, s.Guest.Snapshot)
	}
	d.note(diag.Warning, c.Source, fmt.Sprintf("container %s cannot be cloned from %s while that runs", c.ID, from.ID),
		"give "+from.ID+" a template_snapshot_name, on a storage that takes snapshots")
	return object.NewAddress(spec.KindContainer, from.ID)
}

// quietStorage is storage, when what there is to say was said.
func (d *derivation) quietStorage(pool string) Storage {
	said := d.diags
	s := d.storage(object.Source{}, pool, "")
	d.diags = said
	return s
}

func (d *derivation) snapshot(c *Container, name, about string, after []object.Address) object.Address {
	return d.add(on(c, spec.KindSnapshot, "pve", name),
		spec.Snapshot{ID: c.ID, Name: name, About: about, Proxmox: *d.machine.Proxmox}, after...)
}

// allOf are the addresses of all objects of a container but its snapshots at the end.
func (d *derivation) allOf(c *Container) []object.Address {
	var out []object.Address
	for _, o := range d.objects {
		if o.Container == c.ID && (o.Address.Kind() != spec.KindSnapshot || o.Address.Name() == preConfigured) {
			out = append(out, o.Address)
		}
	}
	return out
}

// guestVolumes fills in what is mounted in a container. Volumes of a storage are made with the container; directories
// of the hypervisor are objects that must be there before, and go along where the container's ids are moved.
func (d *derivation) guestVolumes(c *Container, s *spec.Container, ids *spec.IDRange,
	first object.Address) (volumes []spec.Volume, directories []object.Address) {
	for _, v := range d.house.volumes[c.ID] {
		if d.refuseUnmountable(v) {
			continue
		}
		if v.hostPath != "" && d.machine.Present[v.hostPath] {
			address, directory := d.volume(c, v, first)
			directories = append(directories, address)
			alongWith(ids, directory)
			s.Guest.Binds = append(s.Guest.Binds, mountOf(v, directory))
			continue
		}
		pool := v.pool
		if pool == "" {
			pool = s.Guest.Storage
		}
		what := fmt.Sprintf("%s of container %s", v.target, c.ID)
		storage := d.storage(v.source, pool, what)
		if v.hostPath != "" {
			d.note(diag.Note, v.source, fmt.Sprintf("%s is not on this machine; %s is a volume on %s", v.hostPath, what,
				storage.ID), "")
		}
		if v.noBackup && !v.keys {
			d.note(diag.Warning, v.source,
				fmt.Sprintf("%s is in no backup: a restore over the container destroys it", what),
				`take "backup": false out; phoenix has Proxmox back up every volume unless that is said`)
		}
		volumes = append(volumes, spec.Volume{
			Container: c.ID, Name: v.name, Pool: storage.ID, Path: path.Join(d.machine.Root, "volumes", c.ID, v.name),
			MountPoint: path.Clean(v.target),
			SizeBytes:  int64(max(v.sizeGB, 1)) << 30, UID: v.uid, GID: v.gid, Mode: v.mode, IDMap: d.idMap(c),
			Backup:  v.keys || !v.noBackup,
			Proxmox: d.machine.Proxmox,
		})
	}
	s.Guest.Volumes = volumes
	return volumes, directories
}

// refuseUnmountable tells of paths that Proxmox cannot mount, before anything is done to the directory that is there.
func (d *derivation) refuseUnmountable(v volume) (refused bool) {
	check, paths := spec.ProxmoxVolumePath, []string{v.target}
	if v.hostPath != "" && d.machine.Present[v.hostPath] {
		check, paths = spec.ProxmoxMountPath, append(paths, v.hostPath)
	}
	for _, p := range paths {
		if _, fault := check(p); fault != nil {
			d.note(diag.Error, v.source, fault.Why, fault.Hint)
			refused = true
		}
	}
	return refused
}

// known are the features of pct; other options of it are no features.
var known = []string{"force_rw_sys", "fuse", "keyctl", "mknod", "mount", "nesting"}

// features are those of pct_options, and what systemd needs.
func (d *derivation) features(c *Container) []string {
	values := map[string]string{"nesting": "1"}
	for _, option := range c.PctOptions {
		option = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(option), "--features"))
		for _, part := range strings.FieldsFunc(option, func(r rune) bool { return r == ',' || r == ' ' }) {
			key, value, ok := strings.Cut(part, "=")
			if !ok || !slices.Contains(known, key) {
				d.note(diag.Warning, c.Source,
					fmt.Sprintf("pct_options of container %s: %s is not acted on", c.ID, part),
					"phoenix knows the features "+strings.Join(known, ", "))
				continue
			}
			values[key] = value
		}
	}
	var out []string
	for _, key := range known {
		if v := values[key]; v != "" && v != "0" {
			out = append(out, key+"="+v)
		}
	}
	return out
}

var gpuNumber = regexp.MustCompile(`^[0-9]{1,3}$`)

// gpuDevices are the devices of the GPUs that a container is given, those of each one first.
func gpuDevices(c *Container) []string {
	var out []string
	for _, n := range c.GPU {
		if gpuNumber.MatchString(n) {
			out = append(out, "/dev/nvidia"+n)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return append(out, "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
}

// devices are those that are here: a container with one that is missing does not start.
func (d *derivation) devices(c *Container) []string {
	var out, missing []string
	for _, dev := range gpuDevices(c) {
		if d.machine.Present[dev] {
			out = append(out, dev)
		} else {
			missing = append(missing, dev)
		}
	}
	for _, n := range c.GPU {
		if n != "none" && !gpuNumber.MatchString(n) {
			d.note(diag.Warning, c.Source, fmt.Sprintf("gpu_assignment of container %s: %q is no number of a GPU", c.ID,
				n), `numbers such as "0,1", or "none"`)
		}
	}
	if len(missing) > 0 {
		d.note(diag.Warning, c.Source, fmt.Sprintf("container %s is given a GPU, and %s is not on this machine", c.ID,
			strings.Join(missing, ", ")), "install the driver on the hypervisor first")
	}
	return out
}
