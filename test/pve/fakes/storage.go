package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// storage is one of storage.cfg.
type storage struct {
	kind, id string
	of       map[string]string
}

func (b base) storages() []storage {
	text, err := os.ReadFile(b.path("pve", "storage.cfg"))
	if err != nil {
		return nil
	}
	var out []storage
	for l := range strings.Lines(string(text)) {
		f := strings.Fields(l)
		switch {
		case len(f) == 2 && strings.HasSuffix(f[0], ":"):
			out = append(out, storage{strings.TrimSuffix(f[0], ":"), f[1], map[string]string{}})
		case len(f) > 0 && len(out) > 0:
			out[len(out)-1].of[f[0]] = strings.Join(f[1:], " ")
		}
	}
	return out
}

func (b base) storage(id string) (storage, error) {
	for _, s := range b.storages() {
		if s.id == id {
			return s, nil
		}
	}
	return storage{}, fmt.Errorf("storage '%s' does not exist", id)
}

// locate is where a volume is, or would be.
func (b base) locate(volume string) (string, error) {
	id, name, ok := strings.Cut(volume, ":")
	if !ok {
		return "", fmt.Errorf("unable to parse volume ID '%s'", volume)
	}
	s, err := b.storage(id)
	if err != nil {
		return "", err
	}
	switch {
	case strings.HasPrefix(name, "vztmpl/"):
		return filepath.Join(s.of["path"], "template", "cache", strings.TrimPrefix(name, "vztmpl/")), nil
	case s.kind == "zfspool":
		return filepath.Join(s.of["mountpoint"], filepath.Base(name)), nil
	case s.kind == "lvmthin": // the device is off while nothing uses it; what is on it is kept here
		return b.path("lvm", name), nil
	}
	return filepath.Join(s.of["path"], "images", name), nil
}

var newVolume = regexp.MustCompile(`^([^:/]+):(\d+(?:\.\d+)?)$`)

// allocate makes a volume of SIZE gigabytes with an owner's id in its name. Its top directory is the id map's root's.
func (b base) allocate(id, store, size string, owner int, made *[]string) (volume, text string, err error) {
	b.strike()
	step.Lock()
	defer step.Unlock()
	s, err := b.storage(store)
	if err != nil {
		return "", "", err
	}
	if !strings.Contains(s.of["content"], "rootdir") {
		return "", "", fmt.Errorf("storage '%s' does not support content-type 'rootdir'", store)
	}
	text = size + "G"
	for i := 0; ; i++ {
		switch n := strconv.Itoa(i); {
		case s.kind == "zfspool":
			volume = store + ":subvol-" + id + "-disk-" + n
		case s.kind == "lvmthin":
			volume = store + ":vm-" + id + "-disk-" + n
		case size == "0":
			volume, text = store+":"+id+"/subvol-"+id+"-disk-"+n+".subvol", "0T"
		default:
			volume = store + ":" + id + "/vm-" + id + "-disk-" + n + ".raw"
		}
		path, err := b.locate(volume)
		if err != nil {
			return "", "", err
		}
		if _, err := os.Lstat(path); err != nil {
			if made != nil { // what SIGTERM takes back
				*made = append(*made, volume)
			}
			return volume, text, fill(path, size, owner)
		}
	}
}

func fill(path, size string, owner int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if !strings.HasSuffix(path, ".raw") {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		return os.Chown(path, owner, owner)
	}
	n, err := strconv.ParseFloat(size, 64)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(n * (1 << 30))); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return exec.Command("mkfs.ext4", "-q", "-F", "-E", fmt.Sprintf("root_owner=%d:%d", owner, owner), path).Run()
}

func (b base) remove(volume string) error {
	b.strike()
	path, err := b.locate(volume)
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// owned are all volumes with the id in their names.
func (b base) owned(id string) []string {
	var out []string
	for _, s := range b.storages() {
		dir, prefix := s.of["mountpoint"], s.id+":"
		if s.kind == "lvmthin" {
			dir = b.path("lvm")
		} else if s.kind != "zfspool" {
			dir, prefix = filepath.Join(s.of["path"], "images", id), s.id+":"+id+"/"
		}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.Contains(e.Name(), "-"+id+"-") {
				out = append(out, prefix+e.Name())
			}
		}
	}
	slices.Sort(out)
	return out
}

func (b base) pvesm(args []string) error {
	if len(args) < 1 {
		return exitCode(255)
	}
	if f := b.faulty("pvesm-" + args[0]); f != nil {
		return f.happen()
	}
	c, err := parseArgs(args[1:])
	if err != nil {
		return err
	}
	switch args[0] {
	case "path":
		path, err := b.locate(c.words[0])
		if strings.HasPrefix(path, b.path("lvm")+"/") {
			path = "/dev/phxfake/" + filepath.Base(path)
		}
		if err == nil {
			fmt.Println(path)
		}
		return err
	case "free":
		if err := b.remove(c.words[0]); err != nil {
			return err
		}
		fmt.Printf("Removed volume '%s'\n", c.words[0])
		return nil
	case "list":
		return b.list(c)
	case "alloc":
		return b.alloc(c)
	case "add":
		return b.addStorage(c)
	case "status":
		fmt.Println("Name             Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %")
		for _, s := range b.storages() {
			fmt.Printf("%-10s %10s %10s %15d %15d %15d %8s\n", s.id, s.kind, "active", 3248128, 102400, 3145728,
				"3.15%")
		}
		return nil
	}
	return exitCode(255)
}

// addStorage wants a dataset to be there, makes a directory, and refuses a name that is taken.
func (b base) addStorage(c call) error {
	kind, id := c.words[0], c.words[1]
	if _, err := b.storage(id); err == nil {
		return fmt.Errorf("create storage failed: storage ID '%s' already defined", id)
	}
	key, value := "path", c.get("path")
	if kind == "zfspool" {
		key, value = "pool", c.get("pool")
		if _, err := os.Stat(b.path("datasets", value)); err != nil {
			return fmt.Errorf("create storage failed: could not activate storage '%s', zfs error: cannot open '%s': "+
				"dataset does not exist", id, value)
		}
	}
	f, err := os.OpenFile(b.path("pve", "storage.cfg"), os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintf(f, "\n%s: %s\n\t%s %s\n\tcontent %s\n", kind, id, key, value, c.get("content"))
	return f.Close()
}

// zfs knows list -H -o name and create, of one dataset.
func (b base) zfs(args []string) error {
	name := args[len(args)-1]
	_, err := os.Stat(b.path("datasets", name))
	switch {
	case args[0] == "list" && err != nil:
		return fmt.Errorf("cannot open '%s': dataset does not exist", name)
	case args[0] == "list":
		fmt.Println(name)
		return nil
	case args[0] == "create" && err == nil:
		return fmt.Errorf("cannot create '%s': dataset already exists", name)
	}
	if err := os.Mkdir(b.path("datasets", name), 0o755); err != nil {
		return fmt.Errorf("cannot create '%s': no such pool", name)
	}
	return nil
}

func (b base) alloc(c call) error {
	store, id, name, size := c.words[0], c.words[1], c.words[2], c.words[3]
	if name != "" && !strings.HasPrefix(name, "subvol-"+id+"-") {
		return fmt.Errorf("illegal name '%s' - should be 'subvol-%s-*'", name, id)
	}
	volume, _, err := b.allocate(id, store, strings.TrimSuffix(size, "G"), 0, nil)
	if err == nil {
		fmt.Printf("successfully created '%s'\n", volume)
	}
	return err
}

func (b base) list(c call) error {
	fmt.Println("Volid                       Format  Type            Size VMID")
	for _, s := range b.storages() {
		if s.id != c.words[0] {
			continue
		}
		ids := []string{c.get("vmid")}
		if ids[0] == "" {
			ids = b.allOwners(s)
		}
		for _, id := range ids {
			for _, volume := range b.owned(id) {
				if !strings.HasPrefix(volume, s.id+":") {
					continue
				}
				format := "raw"
				if strings.Contains(volume, "subvol-") {
					format = "subvol"
				}
				fmt.Printf("%-27s %-6s  rootdir   %10d %s\n", volume, format, 1<<30, id)
			}
		}
	}
	return nil
}

// allOwners are the ids that volumes of a storage have in their names.
func (b base) allOwners(s storage) (out []string) {
	dir := s.of["mountpoint"]
	switch s.kind {
	case "zfspool":
	case "lvmthin":
		dir = b.path("lvm")
	default:
		dir = filepath.Join(s.of["path"], "images")
	}
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		id := n.Name()
		if m := regexp.MustCompile(`^(?:subvol|vm|basevol)-(\d+)-`).FindStringSubmatch(id); m != nil {
			id = m[1]
		}
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func (b base) pvesh(args []string) error {
	if len(args) > 1 && args[0] == "get" && args[1] == "/version" {
		fmt.Println(`{"release":"9.1","repoid":"fake","version":"9.1.1"}`)
		return nil
	}
	return exitCode(2)
}
