package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// taken tells who has an id already.
func (b base) taken(id string) error {
	kinds := map[string]string{"lxc": "CT", "qemu-server": "VM"}
	nodes, _ := os.ReadDir(b.path("pve", "nodes"))
	for _, n := range nodes {
		for directory, kind := range kinds {
			if _, err := os.Stat(b.path("pve", "nodes", n.Name(), directory, id+".conf")); err == nil {
				return fmt.Errorf("%s %s already exists on node '%s'", kind, id, n.Name())
			}
		}
	}
	return nil
}

// reserve writes the file that only says that the container is being made.
func (b base) reserve(id string) error {
	if err := b.taken(id); err != nil {
		return err
	}
	if !b.quorate() {
		return fmt.Errorf("cluster not ready - no quorum?")
	}
	c := newConf()
	c.keys["lock"] = "create"
	return b.save(id, c)
}

// step is held while something is made that SIGTERM would have to take back.
var step sync.Mutex

// undo makes SIGTERM take back what was made so far, as the real one does; SIGKILL leaves it.
func (b base) undo(id string, volumes *[]string, more ...func()) (done func()) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		if _, told := <-ended; !told {
			return
		}
		step.Lock() // for good
		b.rollBack(id, *volumes)
		for _, f := range more {
			f()
		}
		fmt.Fprintln(os.Stderr, "received interrupt")
		os.Exit(255)
	}()
	return func() { signal.Stop(ended) }
}

func (b base) rollBack(id string, volumes []string) {
	for _, v := range volumes {
		b.remove(v)
	}
	if b.quorate() { // else its file stays, with its lock
		os.Remove(b.file(id))
		b.listed()
	}
}

func (b base) create(c call) error {
	if len(c.words) < 2 {
		return short()
	}
	id, archive := c.words[0], c.words[1]
	if err := c.check("storage", "force", "start", "pool", "ssh-public-keys", "password", "bwlimit", "unique",
		"restore"); err != nil {
		return err
	}
	if err := errors.Join(b.taken(id), b.hasPool(c.get("pool"))); err != nil {
		return err
	}
	source := archive
	if !filepath.IsAbs(archive) {
		path, err := b.locate(archive)
		if err != nil {
			return err
		}
		source = path
	}
	if _, err := os.Stat(source); err != nil {
		return fmt.Errorf("unable to create CT %s - volume '%s' does not exist", id, archive)
	}
	if err := b.reserve(id); err != nil {
		return err
	}
	var made []string
	defer b.undo(id, &made)()
	conf, err := b.build(id, c, &made)
	if err == nil {
		b.linger("create")
		err = errors.Join(b.save(id, conf), b.join(c.get("pool"), id))
	}
	if err != nil {
		b.rollBack(id, made)
		return fmt.Errorf("unable to create CT %s - %w", id, err)
	}
	return nil
}

// linger gives a test time to kill the call, or to take the quorum away: as long as the file slow-VERB says, else a
// minute.
func (b base) linger(verb string) {
	raw, err := os.ReadFile(b.path("slow-" + verb))
	if err != nil {
		return
	}
	pause, err := time.ParseDuration(strings.TrimSpace(string(raw)))
	if err != nil {
		pause = time.Minute
	}
	time.Sleep(pause)
}

func (b base) build(id string, c call, made *[]string) (*conf, error) {
	conf := newConf()
	unprivileged := c.opts["unprivileged"] == "" || c.is("unprivileged")
	if unprivileged {
		conf.keys["unprivileged"] = "1"
	}
	conf.keys["arch"], conf.keys["ostype"] = "amd64", "debian"
	if c.opts["rootfs"] == "" {
		for k := range c.opts {
			if mountKey.MatchString(k) {
				return nil, fmt.Errorf("mount points configured, but 'rootfs' not set - aborting")
			}
		}
		c.opts["rootfs"] = "local:4"
	}
	for k, v := range c.opts {
		switch {
		case k == "description":
			conf.notes = strings.Split(v, "\n")
		case k == "unprivileged" || k == "storage" || k == "start" || k == "pool":
		case k == "rootfs" || mountKey.MatchString(k):
			value, err := b.place(id, v, conf.root(), made)
			if err != nil {
				return nil, err
			}
			conf.keys[k] = normal(k, value)
		default:
			conf.keys[k] = normal(k, v)
		}
	}
	root, err := b.locate(parse(conf.keys["rootfs"], "volume").word)
	if err != nil {
		return nil, err
	}
	return conf, extract(root, conf.root()) // into whatever volume that is, whoever's
}

// place makes the volume that a value such as local-zfs:4 asks for.
func (b base) place(id, value string, owner int, made *[]string) (string, error) {
	p := parse(value, "volume")
	if m := newVolume.FindStringSubmatch(p.word); m != nil {
		volume, size, err := b.allocate(id, m[1], m[2], owner, made)
		if err != nil {
			return "", err
		}
		p.word, p.of["size"] = volume, size
	}
	return p.text("mp"), nil
}

// extract leaves what a template has, as far as anybody looks.
func extract(root string, owner int) error {
	if strings.HasSuffix(root, ".raw") {
		root += ".d" // nobody mounts it
	}
	for _, dir := range []string{"dev", "etc", "usr/local/lib"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for name, mode := range map[string]os.FileMode{"etc/os-release": 0o644, "usr/su": 0o755 | os.ModeSetuid} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("ID=debian\n"), 0o644); err != nil {
			return err
		}
		if err := errors.Join(os.Lchown(filepath.Join(root, name), owner, owner),
			os.Chmod(filepath.Join(root, name), mode)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"dev", "etc", "usr", "usr/local", "usr/local/lib"} {
		if err := os.Lchown(filepath.Join(root, dir), owner, owner); err != nil {
			return err
		}
	}
	return os.Lchown(root, owner, owner)
}

func (b base) clone(c call) error {
	if len(c.words) < 2 {
		return short()
	}
	from, id := c.words[0], c.words[1]
	src, err := b.load(from)
	if err != nil {
		return err
	}
	if lock := src.keys["lock"]; lock != "" {
		return locked(lock)
	}
	state := &src.part
	if name := c.get("snapname"); name != "" {
		if state = src.snapshots[name]; state == nil {
			return fmt.Errorf("snapshot '%s' does not exist", name)
		}
	}
	linked := src.keys["template"] == "1" && !c.is("full")
	switch {
	case linked && c.get("storage") != "":
		return fmt.Errorf("400 Parameter verification failed.\nstorage: parameter 'storage' not allowed for " +
			"linked clones")
	case !linked && b.pid(from) != 0 && c.get("snapname") == "":
		//lint:ignore ST1005 the words are Proxmox's
		return fmt.Errorf("Full clone of a running container is only possible from a snapshot")
	}
	for k, v := range state.keys {
		if mountKey.MatchString(k) && filepath.IsAbs(parse(v, "volume").word) {
			return fmt.Errorf("unable to clone mountpoint '%s' (type bind)", k)
		}
	}
	if err := b.hasPool(c.get("pool")); err != nil {
		return err
	}
	src.keys["lock"] = "disk"
	if err := b.save(from, src); err != nil {
		return err
	}
	var made []string
	done := b.undo(id, &made, func() {
		delete(src.keys, "lock")
		_ = os.WriteFile(b.file(from), []byte(src.text()), 0o640)
	})
	conf, volumes := b.begun(id, c, state)
	// the whole of it but for the volumes, before any is copied
	if err := errors.Join(b.reserve(id), b.save(id, conf), b.join(c.get("pool"), id)); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond) // so that another at the same time meets the lock
	b.linger("clone")
	err = b.copied(id, c, conf, volumes, &made)
	if rules, ferr := os.ReadFile(b.path("pve", "firewall", from+".fw")); err == nil && ferr == nil {
		err = os.WriteFile(b.path("pve", "firewall", id+".fw"), rules, 0o640)
	}
	if err == nil {
		delete(conf.keys, "lock")
		err = b.save(id, conf)
	}
	done()
	delete(src.keys, "lock")
	if err := b.save(from, src); err != nil {
		return err
	}
	if err != nil {
		b.rollBack(id, made)
		return fmt.Errorf("clone failed: %w", err)
	}
	return nil
}

// begun is the file that a clone writes before it copies: all of the source's but its snapshots, what waits, what is
// unused and its volumes, with another hardware address. The volumes are given in an order that is left to chance.
func (b base) begun(id string, c call, state *part) (conf *conf, volumes [][2]string) {
	conf = newConf()
	conf.part = state.copyOf()
	for _, k := range []string{"parent", "snaptime", "template"} {
		delete(conf.keys, k)
	}
	conf.keys["lock"] = "create"
	for k := range conf.volumes() {
		if !unusedKey.MatchString(k) {
			volumes = append(volumes, [2]string{k, conf.keys[k]})
		}
		delete(conf.keys, k)
	}
	rand.Shuffle(len(volumes), func(i, j int) { volumes[i], volumes[j] = volumes[j], volumes[i] })
	if n := parse(conf.keys["net0"], ""); conf.keys["net0"] != "" {
		delete(n.of, "hwaddr")
		conf.keys["net0"] = normal("net0", n.text())
	}
	if name := c.get("hostname"); name != "" {
		conf.keys["hostname"] = name
	}
	if text, ok := c.opts["description"]; ok {
		conf.notes = strings.Split(text, "\n")
	}
	return conf, volumes
}

// copied copies the volumes, and writes each down after it was copied.
func (b base) copied(id string, c call, conf *conf, volumes [][2]string, made *[]string) error {
	for _, v := range volumes {
		p := parse(v[1], "volume")
		volume := p.word
		store, _, _ := strings.Cut(volume, ":")
		if s := c.get("storage"); s != "" {
			store = s
		}
		fresh, _, err := b.allocate(id, store, strings.TrimSuffix(p.of["size"], "G"), conf.root(), made)
		if err != nil {
			return err
		}
		from, _ := b.locate(volume)
		to, _ := b.locate(fresh)
		step.Lock()
		out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput()
		step.Unlock()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if name := c.get("snapname"); name != "" {
			if err := b.recall(c.words[0], name, volume, to); err != nil {
				return err
			}
		}
		p.word = fresh
		conf.keys[v[0]] = p.text("mp")
		if err := b.save(id, conf); err != nil {
			return err
		}
	}
	return nil
}

func short() error {
	fmt.Fprintln(os.Stderr, "400 not enough arguments\npct <command> <vmid> [OPTIONS]")
	return exitCode(255)
}

func locked(lock string) error { return fmt.Errorf("CT is locked (%s)", lock) }
