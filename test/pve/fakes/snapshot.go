package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var snapshotName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{1,39}$`)

func (b base) snapshot(c call) error {
	if len(c.words) < 2 {
		return short()
	}
	id, name := c.words[0], c.words[1]
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	if !snapshotName.MatchString(name) || name == "current" {
		return fmt.Errorf("400 Parameter verification failed.\nsnapname: invalid configuration ID '%s'", name)
	}
	if conf.keys["lock"] != "" {
		return locked(conf.keys["lock"])
	}
	if conf.snapshots[name] != nil {
		return fmt.Errorf("snapshot name '%s' already used", name)
	}
	for k, v := range conf.keys {
		word := parse(v, "volume").word
		mount := k == "rootfs" || mountKey.MatchString(k)
		if mount && (filepath.IsAbs(word) || strings.HasSuffix(word, ".raw")) {
			return fmt.Errorf("snapshot feature is not available")
		}
	}
	p := conf.part.copyOf()
	p.notes = nil
	if d := c.get("description"); d != "" {
		p.notes = strings.Split(d, "\n")
	}
	for k := range p.keys {
		if unusedKey.MatchString(k) {
			delete(p.keys, k)
		}
	}
	if err := b.remember(id, name, p); err != nil {
		return err
	}
	p.keys["snaptime"] = strconv.FormatInt(time.Now().Unix(), 10)
	p.keys["snapstate"] = "prepare"
	conf.snapshots[name] = &p
	conf.keys["lock"] = "snapshot"
	if err := b.save(id, conf); err != nil {
		return err
	}
	delete(p.keys, "snapstate")
	delete(conf.keys, "lock")
	conf.keys["parent"] = name
	return b.save(id, conf)
}

func (b base) listSnapshots(c call) error {
	conf, err := b.load(c.words[0])
	if err != nil {
		return err
	}
	for name := range conf.snapshots {
		fmt.Printf("`-> %-28s no-description\n", name)
	}
	fmt.Println(" `-> current                                           You are here!")
	return nil
}

func (b base) deleteSnapshot(c call) error {
	id, name := c.words[0], c.words[1]
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	s := conf.snapshots[name]
	if s == nil {
		return fmt.Errorf("snapshot '%s' does not exist", name)
	}
	if conf.keys["lock"] != "" { // --force does not pass it
		return locked(conf.keys["lock"])
	}
	conf.keys["lock"], s.keys["snapstate"] = "snapshot-delete", "delete"
	if err := b.save(id, conf); err != nil {
		return err
	}
	delete(conf.keys, "lock")
	delete(conf.snapshots, name)
	for _, p := range append(slices.Collect(maps.Values(conf.snapshots)), &conf.part) {
		if p.keys["parent"] == name {
			delete(p.keys, "parent")
			if s.keys["parent"] != "" {
				p.keys["parent"] = s.keys["parent"]
			}
		}
	}
	return b.save(id, conf)
}

// rollback stops the container and locks it in one step, as far as others see.
func (b base) rollback(c call) error {
	id, name := c.words[0], c.words[1]
	if err := b.withLock(id, func() error { return b.rollbackBegun(id, name) }); err != nil {
		return err
	}
	b.linger("rollback")
	conf, err := b.load(id)
	if err != nil {
		return err
	}
	before := conf.part
	conf.part = conf.snapshots[name].copyOf()
	conf.notes, conf.keys["parent"] = before.notes, name // those of a snapshot are its own
	delete(conf.keys, "snaptime")
	for k, v := range before.keys {
		if unusedKey.MatchString(k) {
			conf.keys[k] = v
		}
	}
	for _, volume := range conf.volumes() {
		path, err := b.locate(volume)
		if err == nil {
			err = b.recall(id, name, volume, path)
		}
		if err != nil {
			return err
		}
	}
	if err := b.save(id, conf); err != nil {
		return err
	}
	if c.is("start") {
		return b.start(c)
	}
	return nil
}

func (b base) rollbackBegun(id, name string) error {
	conf, err := b.load(id)
	switch {
	case err != nil:
		return err
	case conf.snapshots[name] == nil:
		return fmt.Errorf("snapshot '%s' does not exist", name)
	case conf.keys["parent"] != name:
		return fmt.Errorf("can't rollback, '%s' is not most recent snapshot on '%s'", name,
			parse(conf.keys["rootfs"], "volume").word)
	case conf.keys["lock"] != "":
		return locked(conf.keys["lock"])
	}
	if b.pid(id) != 0 {
		if err := b.halt(id); err != nil {
			return err
		}
		if conf, err = b.load(id); err != nil {
			return err
		}
	}
	conf.keys["lock"] = "rollback"
	return b.save(id, conf)
}
