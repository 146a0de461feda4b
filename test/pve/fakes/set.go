package main

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// atOnce are the keys that change while a container runs; all others, and what is mounted already, wait for its end.
var atOnce = []string{"description", "onboot", "startup", "protection", "hostname", "hookscript", "cores", "tags",
	"lock", "memory", "swap",
	"cpulimit", "cpuunits"}

func (b base) set(c call) error {
	id := c.words[0]
	if err := c.check("delete", "revert", "digest"); err != nil {
		return err
	}
	if len(c.opts) == 0 || len(c.opts) == 1 && c.opts["digest"] != "" {
		return fmt.Errorf("no options specified")
	}
	if _, ok := c.opts["unprivileged"]; ok {
		return fmt.Errorf("unable to modify read-only option: 'unprivileged'")
	}
	return b.withLock(id, func() error { return b.change(id, c) })
}

func (b base) change(id string, c call) error {
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	if lock := conf.keys["lock"]; lock != "" && c.opts["lock"] == "" {
		return locked(lock)
	}
	text, err := os.ReadFile(b.file(id))
	if err != nil {
		return err
	}
	if sum := sha1.Sum(text); c.get("digest") != "" && c.get("digest") != hex.EncodeToString(sum[:]) {
		//lint:ignore ST1005 the words are Proxmox's
		return fmt.Errorf("detected modified configuration - file changed by other user? Try again.")
	}
	up := b.pid(id) != 0
	for k := range strings.SplitSeq(c.get("revert"), ",") {
		delete(conf.pending, k)
		conf.deletes = slices.DeleteFunc(conf.deletes, func(x string) bool { return x == k })
	}
	for k := range strings.SplitSeq(c.get("delete"), ",") {
		if k == "" {
			continue
		}
		if err := b.erase(id, conf, k, up); err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.opts)) {
		if k == "delete" || k == "revert" || k == "digest" {
			continue
		}
		if err := b.assign(id, conf, k, c.opts[k], up); err != nil {
			return err
		}
	}
	if up {
		if err := b.plug(id, conf, c.opts); err != nil {
			return err
		}
	}
	return errors.Join(b.save(id, conf), b.give(id, conf))
}

func (b base) erase(id string, conf *conf, k string, up bool) error {
	if !slices.Contains(settable, k) && !indexed.MatchString(k) {
		return fmt.Errorf("400 Parameter verification failed.\ndelete: unable to delete unknown option '%s'", k)
	}
	value, there := conf.keys[k]
	switch word := parse(value, "volume").word; {
	case !there:
		fmt.Fprintf(os.Stderr, "cannot delete '%s' - not set in current configuration!\n", k)
	case conf.keys["protection"] == "1" && (mountKey.MatchString(k) || unusedKey.MatchString(k)):
		return fmt.Errorf("can't remove CT %s drive '%s' - protection mode enabled", id, k)
	case unusedKey.MatchString(k):
		delete(conf.keys, k)
		if !b.quorate() {
			return b.denied(id)
		}
		return b.remove(word)
	case up && !slices.Contains(atOnce, k) && !strings.HasPrefix(k, "net") && !strings.HasPrefix(k, "dev"):
		conf.deletes = append(conf.deletes, k)
	case mountKey.MatchString(k):
		delete(conf.keys, k)
		if !filepath.IsAbs(word) {
			conf.unuse(word)
		}
	default:
		delete(conf.keys, k)
	}
	return nil
}

func (b base) assign(id string, conf *conf, k, value string, up bool) error {
	if k == "description" {
		conf.notes = strings.Split(value, "\n")
		return nil
	}
	old, there := conf.keys[k]
	if conf.keys["protection"] == "1" && (mountKey.MatchString(k) || k == "rootfs") {
		return fmt.Errorf("can't update CT %s drive '%s' - protection mode enabled", id, k)
	}
	waits := !slices.Contains(atOnce, k) && !strings.HasPrefix(k, "net") && !strings.HasPrefix(k, "dev") &&
		(!mountKey.MatchString(k) || there)
	if up && waits {
		conf.pending[k] = normal(k, value) // a new volume is made only when the container stops
		return nil
	}
	if !mountKey.MatchString(k) && k != "rootfs" {
		conf.keys[k] = normal(k, value)
		return nil
	}
	return b.hang(id, conf, k, value, old)
}

// hang makes a mount point what value says; the volume that was there is put aside.
func (b base) hang(id string, conf *conf, k, value, old string) error {
	if !b.quorate() {
		return b.denied(id)
	}
	placed, err := b.place(id, value, conf.root(), nil)
	if err != nil {
		return err
	}
	p, was := parse(placed, "volume"), parse(old, "volume")
	if p.of["size"] == "" && was.word == p.word && was.of["size"] != "" {
		p.of["size"] = was.of["size"]
	}
	if p.of["size"] == "" && !filepath.IsAbs(p.word) {
		p.of["size"] = "1G"
	}
	conf.keys[k] = p.text("mp")
	for key, v := range conf.volumes() {
		if unusedKey.MatchString(key) && v == p.word {
			delete(conf.keys, key)
		}
	}
	if was.word != "" && was.word != p.word && !filepath.IsAbs(was.word) {
		conf.unuse(was.word)
	}
	return nil
}

// settle does what waited for the container's end.
func (b base) settle(id string, conf *conf) error {
	for _, k := range conf.deletes {
		if err := b.erase(id, conf, k, false); err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(conf.pending)) {
		if err := b.assign(id, conf, k, conf.pending[k], false); err != nil {
			return err
		}
	}
	if len(conf.deletes)+len(conf.pending) == 0 {
		return b.save(id, conf)
	}
	conf.deletes, conf.pending = nil, map[string]string{}
	return errors.Join(b.save(id, conf), b.give(id, conf))
}
