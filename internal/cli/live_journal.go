package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// journal is where a migration keeps what its way back needs, readable by root only:
//
//	copy/                  the shared directory as it was
//	containers/ID/config   a container's definition as it was
//	containers/ID/home     mode and owner of the directory that it is in
//	containers/ID/files.tar  its /etc and /usr/local as they were
//	files.json             which files of the configuration were replaced, and where the old ones are
//	from                   the lxcpath of the old containers
//	shared                 the path of the shared directory
//	leaked                 digests of the keys in it, one a line; public
//	shredded               the directory was emptied: there is no way back
//
// What was done already is looked for where it was done, not here.
type journal struct {
	host host.Host
	dir  string
}

func journalIn(h host.Host, root string) journal { return journal{h, filepath.Join(root, "migration")} }

func (j journal) copy() string               { return filepath.Join(j.dir, "copy") }
func (j journal) guest(id string) string     { return filepath.Join(j.dir, "containers", id) }
func (j journal) config(id string) string    { return filepath.Join(j.guest(id), "config") }
func (j journal) home(id string) string      { return filepath.Join(j.guest(id), "home") }
func (j journal) tree(id string) string      { return filepath.Join(j.guest(id), "files.tar") }
func (j journal) files() string              { return filepath.Join(j.dir, "files.json") }
func (j journal) shared() string             { return filepath.Join(j.dir, "shared") }
func (j journal) leakedFile() string         { return filepath.Join(j.dir, "leaked") }
func (j journal) shredded() string           { return filepath.Join(j.dir, "shredded") }
func (j journal) there(path string) bool     { return isThere(j.host, path) }
func (j journal) read(path string) string    { raw, _ := j.host.ReadFile(path); return string(raw) }
func (j journal) write(path, s string) error { return j.put(path, []byte(s)) }

// put writes a file that only root reads.
func (j journal) put(path string, data []byte) error {
	if err := j.host.MkdirAll(filepath.Dir(j.dir), 0o711, host.Root); err != nil {
		return err
	}
	if err := j.host.MkdirAll(filepath.Dir(path), 0o700, host.Root); err != nil {
		return err
	}
	return j.host.WriteFile(path, data, 0o600, host.Root)
}

func (j journal) leaked() []string {
	return strings.Fields(j.read(j.leakedFile()))
}

// sharedPath is the directory that the migration is about; empty: none was begun.
func (j journal) sharedPath() string { return strings.TrimSpace(j.read(j.shared())) }

// from is the lxcpath that the migration was begun with.
func (j journal) from() string { return strings.TrimSpace(j.read(filepath.Join(j.dir, "from"))) }

// replaced is a file of the configuration that was written anew.
type replaced struct {
	File string `json:"file"`
	Kept string `json:"kept"`
}

func (j journal) replaced() ([]replaced, error) {
	raw, err := j.host.ReadFile(j.files())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []replaced
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	return out, err
}

func (j journal) replace(list []replaced) error {
	raw, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return j.put(j.files(), append(raw, '\n'))
}
