package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// workers do their work in a process of their own: it tells its children's complaints on standard output, and fails
// with 255.
var workers = []string{"create", "destroy", "start", "stop", "shutdown", "reboot", "clone", "snapshot", "rollback",
	"delsnapshot", "template",
	"resize", "push", "pull"}

func (b base) pct(args []string) error {
	if len(args) == 0 {
		return short()
	}
	verb := args[0]
	c, err := parseArgs(args[1:])
	if err != nil {
		return err
	}
	verbs := map[string]func(call) error{
		"create": b.create, "clone": b.clone, "set": b.set, "destroy": b.alone(b.destroy), "start": b.alone(b.start),
		"stop": b.stop, "shutdown": b.stop,
		"reboot": b.reboot, "config": b.config, "pending": b.pendingOf, "status": b.status, "list": b.listAll,
		"exec": b.exec, "push": b.push,
		"pull": b.pull, "snapshot": b.snapshot, "listsnapshot": b.listSnapshots, "delsnapshot": b.deleteSnapshot,
		"rollback": b.rollback,
		"template": b.template, "resize": b.resize, "mount": b.mount, "unmount": b.mount, "unlock": b.unlock,
		"rescan": b.rescan,
	}
	do := verbs[verb]
	if do == nil {
		fmt.Fprintf(os.Stderr, "ERROR: unknown command 'pct %s'\n", verb)
		return exitCode(255)
	}
	if verb == "unmount" {
		c.opts["un"] = "1"
	}
	if _, err := os.Stat(b.path("down")); err == nil {
		fmt.Fprint(os.Stderr, strings.Repeat("ipcc_send_rec[1] failed: Connection refused\n", 3)+
			"Unable to load access control list: Connection refused\n")
		return exitCode(111)
	}
	if len(c.words) == 0 && verb != "list" && verb != "rescan" {
		return short()
	}
	if f := b.faulty(verb); f != nil {
		if f.Apply {
			if err := do(c); err != nil {
				return err
			}
		}
		return f.happen()
	}
	err = do(c)
	var code exitCode
	if err != nil && slices.Contains(workers, verb) && !errors.As(err, &code) {
		fmt.Fprintln(os.Stderr, err)
		return exitCode(255)
	}
	return err
}

// withLock holds Proxmox's lock on the file while work is done.
func (b base) withLock(id string, work func() error) error {
	path := b.path("locks", "lxc", "pve-config-"+id+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for i := 0; ; i++ {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			break
		}
		if i == 0 {
			fmt.Fprint(os.Stderr, "trying to acquire lock...")
		}
		if i == 100 {
			return fmt.Errorf("can't lock file '/run/lock/lxc/pve-config-%s.lock' - got timeout", id)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return work()
}

// alone is work that holds that lock.
func (b base) alone(work func(call) error) func(call) error {
	return func(c call) error { return b.withLock(c.words[0], func() error { return work(c) }) }
}

func (b base) config(c call) error {
	conf, err := b.load(c.words[0])
	if err != nil {
		return err
	}
	keys := maps.Clone(conf.keys)
	if !c.is("current") {
		maps.Copy(keys, conf.pending)
		for _, k := range conf.deletes {
			delete(keys, k)
		}
	}
	if len(conf.notes) > 0 {
		keys["description"] = encode(strings.Join(conf.notes, "\n") + "\n")
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		fmt.Printf("%s: %s\n", k, keys[k])
	}
	for _, r := range conf.raw {
		fmt.Printf("%s: %s\n", r[0], r[1])
	}
	return nil
}

func (b base) pendingOf(c call) error {
	conf, err := b.load(c.words[0])
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(conf.keys)) {
		fmt.Printf("cur %s: %s\n", k, conf.keys[k])
		if v, ok := conf.pending[k]; ok {
			fmt.Printf("new %s: %s\n", k, v)
		}
		if slices.Contains(conf.deletes, k) {
			fmt.Printf("del %s: %s\n", k, conf.keys[k])
		}
	}
	return nil
}

func (b base) status(c call) error {
	if _, err := b.load(c.words[0]); err != nil {
		return err
	}
	if b.pid(c.words[0]) != 0 {
		fmt.Println("status: running")
	} else {
		fmt.Println("status: stopped")
	}
	return nil
}

func (b base) listAll(call) error {
	names, _ := filepath.Glob(b.path("pve", "lxc", "*.conf"))
	var ids []int
	for _, n := range names {
		if id, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(n), ".conf")); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for i, n := range ids {
		if i == 0 {
			fmt.Printf("%-10s %-10s %-12s %-20s\n", "VMID", "Status", "Lock", "Name")
		}
		id := strconv.Itoa(n)
		conf, err := b.load(id)
		if err != nil {
			return err
		}
		state, name := "stopped", conf.keys["hostname"]
		if b.pid(id) != 0 {
			state = "running"
		}
		if name == "" {
			name = "CT" + id
		}
		fmt.Printf("%-10s %-10s %-12s %-20s\n", id, state, conf.keys["lock"], name)
	}
	return nil
}

func (b base) destroy(c call) error {
	id := c.words[0]
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	switch {
	case conf.keys["lock"] != "":
		return locked(conf.keys["lock"])
	case b.highlyAvailable(id) && !c.is("purge"):
		//lint:ignore ST1005 the words are Proxmox's
		return fmt.Errorf("unable to remove CT %s - used in HA resources and purge parameter not set.", id)
	case conf.keys["protection"] == "1":
		return fmt.Errorf("can't remove CT %s - protection mode enabled", id)
	case b.pid(id) != 0 && !c.is("force"):
		return fmt.Errorf("unable to destroy CT %s - container is running", id)
	case b.pid(id) != 0:
		if err := b.halt(id); err != nil {
			return err
		}
		if conf, err = b.load(id); err != nil {
			return err
		}
	}
	// The disks go first, and whether the file can be removed is found out after that.
	gone := slices.Collect(maps.Values(conf.volumes()))
	for _, s := range conf.snapshots {
		gone = append(gone, slices.Collect(maps.Values(s.volumes()))...)
	}
	if c.is("destroy-unreferenced-disks") {
		gone = append(gone, b.owned(id)...)
	}
	for _, v := range gone {
		if !strings.Contains(v, "-"+id+"-") {
			fmt.Printf("ignore deletion of '%s', CT %s isn't the owner!\n", v, id)
			continue
		}
		if err := b.remove(v); err != nil {
			return err
		}
	}
	if !b.quorate() {
		return b.denied(id)
	}
	// While the rest goes nothing is left in the file but the lock.
	last := newConf()
	last.keys["lock"] = "destroyed"
	if err := b.save(id, last); err != nil {
		return err
	}
	os.RemoveAll(b.path("lib", id))
	os.RemoveAll(b.path("owners", id))
	if err := b.forgotten(id); err != nil {
		return err
	}
	os.Remove(b.path("pve", "firewall", id+".fw"))
	b.strike()
	err = os.Remove(b.file(id))
	b.listed()
	return err
}

func (b base) template(c call) error {
	id := c.words[0]
	conf, err := b.load(id)
	switch {
	case err != nil:
		return err
	case len(conf.snapshots) > 0: // said, and yet it ends well
		fmt.Fprintln(os.Stderr, "unable to create template, because CT contains snapshots")
		return nil
	case conf.keys["template"] == "1":
		return fmt.Errorf("you can't convert a template to a template")
	}
	conf.keys["template"] = "1"
	return b.save(id, conf)
}

var sizeText = regexp.MustCompile(`^\+?(\d+(?:\.\d+)?)([KMGT]?)$`)

func bytesOf(s string) float64 {
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n * map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[m[2]]
}

func (b base) resize(c call) error {
	if len(c.words) < 3 {
		return short()
	}
	id, key, size := c.words[0], c.words[1], c.words[2]
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	if conf.keys["lock"] != "" {
		return locked(conf.keys["lock"])
	}
	p := parse(conf.keys[key], "volume")
	switch have, want := bytesOf(p.of["size"]), bytesOf(size); {
	case want < have:
		return fmt.Errorf("unable to shrink disk size")
	case want == have:
		return fmt.Errorf("disk is already at specified size")
	}
	p.of["size"] = size
	conf.keys[key] = p.text("mp")
	if err := b.save(id, conf); err != nil {
		return err
	}
	if _, err := os.Stat(b.path("no-growth")); err == nil { // the file says the new size, and the call ends well
		fmt.Fprintln(os.Stderr, "Failed to update the container's filesystem: command 'resize2fs' failed: exit code 1")
	}
	return nil
}

func (b base) mount(c call) error {
	conf, err := b.load(c.words[0])
	if err != nil {
		return err
	}
	id := c.words[0]
	if c.is("un") {
		if err := b.mounts(id, conf, false); err != nil {
			return err
		}
		if conf.keys["lock"] != "mounted" {
			return fmt.Errorf("no lock found trying to remove 'mounted'  lock")
		}
		delete(conf.keys, "lock")
		return b.save(id, conf)
	}
	if conf.keys["lock"] != "" {
		return locked(conf.keys["lock"])
	}
	conf.keys["lock"] = "mounted"
	if err := b.save(id, conf); err != nil {
		return err
	}
	fmt.Printf("mounted CT %s in '/var/lib/lxc/%[1]s/rootfs'\n", id)
	return b.mounts(id, conf, true)
}

// mounts shows the volumes of a stopped container below lib/ID/rootfs, its root file system first, or takes them away
// from there. What is not mounted is passed over.
func (b base) mounts(id string, conf *conf, on bool) error {
	keys := []string{"rootfs"}
	for _, k := range slices.Sorted(maps.Keys(conf.volumes())) {
		if mountKey.MatchString(k) {
			keys = append(keys, k)
		}
	}
	if !on {
		slices.Reverse(keys)
	}
	for _, k := range keys {
		at := b.path("lib", id, "rootfs", parse(conf.keys[k], "volume").of["mp"])
		if !on {
			if err := syscall.Unmount(at, 0); err != nil && !errors.Is(err, syscall.EINVAL) &&
				!errors.Is(err, syscall.ENOENT) {
				return err
			}
			continue
		}
		from, err := b.locate(conf.volumes()[k])
		if err == nil {
			err = mountAt(from, at, conf.root())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mountAt mounts an image or a directory where the container's root makes place. Of a root file system that is an image
// the files lie beside it.
func mountAt(from, at string, root int) error {
	var missing []string
	for dir := at; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		missing = append(missing, dir)
	}
	for _, dir := range slices.Backward(missing) {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Lchown(dir, root, root)); err != nil {
			return err
		}
	}
	if _, err := os.Stat(from + ".d"); err == nil {
		from += ".d"
	}
	fi, err := os.Stat(from)
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return syscall.Mount(from, at, "", syscall.MS_BIND, "")
	}
	out, err := exec.Command("mount", "-o", "loop", from, at).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (b base) unlock(c call) error {
	conf, err := b.load(c.words[0])
	if err != nil {
		return err
	}
	if conf.keys["lock"] == "" {
		return fmt.Errorf("no lock found trying to remove any lock")
	}
	delete(conf.keys, "lock")
	return b.save(c.words[0], conf)
}

func (b base) rescan(c call) error {
	id := c.get("vmid")
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	for _, v := range b.owned(id) {
		if !slices.Contains(slices.Collect(maps.Values(conf.volumes())), v) {
			conf.unuse(v)
		}
	}
	return b.save(id, conf)
}
