package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// users is user.cfg: a line is pool:NAME:COMMENT:IDS:STORAGES: or acl:PROPAGATE:PATH:WHO:ROLES:.
func (b base) users(change func(fields []string) (keep bool)) error {
	path := b.path("pve", "user.cfg")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if change(f) {
			out.WriteString(strings.Join(f, ":") + "\n")
		}
	}
	if out.String() == string(raw) {
		return nil
	}
	return errors.Join(os.WriteFile(path+".tmp", []byte(out.String()), 0o640), os.Rename(path+".tmp", path))
}

// hasPool fails where there is no such pool.
func (b base) hasPool(pool string) error {
	found := pool == ""
	err := b.users(func(f []string) bool {
		found = found || f[0] == "pool" && f[1] == pool
		return true
	})
	if err == nil && !found {
		err = fmt.Errorf("pool '%s' does not exist", pool)
	}
	return err
}

// join puts a guest into a pool.
func (b base) join(pool, id string) error {
	return b.users(func(f []string) bool {
		if pool != "" && f[0] == "pool" && f[1] == pool && !slices.Contains(strings.Split(f[3], ","), id) {
			f[3] = strings.Trim(f[3]+","+id, ",")
		}
		return true
	})
}

// forgotten is what becomes of a guest that is destroyed: it is in no pool, and nobody has rights on it.
func (b base) forgotten(id string) error {
	return b.users(func(f []string) bool {
		if f[0] == "pool" {
			same := func(x string) bool { return x == id }
			f[3] = strings.Join(slices.DeleteFunc(strings.Split(f[3], ","), same), ",")
		}
		return f[0] != "acl" || f[2] != "/vms/"+id
	})
}
