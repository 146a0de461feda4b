package traefik

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// File is a file or directory as it is and as it should be.
type File struct {
	Path       string `json:"path"`
	Mode       string `json:"mode,omitempty"` // empty: it is not there
	WantMode   string `json:"want_mode"`
	Owner      string `json:"owner,omitempty"` // uid:gid
	WantOwner  string `json:"want_owner"`
	SHA256     string `json:"sha256,omitempty"`
	WantSHA256 string `json:"want_sha256,omitempty"` // empty: the content is Traefik's own
}

const storageMode = fs.FileMode(0o600)

// entry is one file or directory that config keeps.
type entry struct {
	path      string
	directory bool
	content   []byte // nil: not looked at
	mode      fs.FileMode
	owner     host.Owner
}

// entries are in the order in which they are made: the storage before what makes Traefik use it.
func entries(h host.Host, s spec.Traefik) ([]entry, error) {
	user, err := h.Lookup(s.User, "")
	if err != nil {
		return nil, fmt.Errorf("user of Traefik: %w", err)
	}
	users, err := usersDigest(h, s)
	if err != nil {
		return nil, err
	}
	reader := host.Owner{GID: user.GID} // root's, and Traefik may read it
	list := []entry{
		{path: s.Dir, directory: true, mode: 0o750, owner: reader},
		{path: dynamicDir(s), directory: true, mode: 0o750, owner: reader},
		{path: s.Storage, mode: storageMode, owner: user},
		{path: routesFile(s), content: renderRoutes(s, users), mode: 0o640, owner: reader},
		{path: staticFile(s), content: renderStatic(s), mode: 0o640, owner: reader},
	}
	if s.Cover != "" {
		list = slices.Insert(list, len(list)-1,
			entry{path: coverFile(s), content: renderCover(s), mode: 0o640, owner: reader})
	}
	return list, nil
}

// usersDigest is of all files with users, empty where there are none: Traefik reads them with its routes, and does not
// look at them again.
func usersDigest(h host.Host, s spec.Traefik) (string, error) {
	var sums []string
	for _, r := range s.Routes {
		if r.UsersFile == "" {
			continue
		}
		sum, err := h.Digest(r.UsersFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		sums = append(sums, r.Name, sum) // without the file Traefik refuses the route, and says so
	}
	if len(sums) == 0 {
		return "", nil
	}
	return digest([]byte(strings.Join(sums, " "))), nil
}

func observeFiles(ctx context.Context, h host.Host, s spec.Traefik) (*Status, error) {
	list, err := entries(h, s)
	if err != nil {
		return nil, err
	}
	st := &Status{}
	for _, e := range list {
		f, err := e.observe(h)
		if err != nil {
			return nil, err
		}
		if e.path == staticFile(s) && f.Mode == "" {
			return nil, nil
		}
		st.Files = append(st.Files, f)
		if e.path == staticFile(s) {
			st.Inputs = f.SHA256
		}
	}
	_, st.Broken, err = readStorage(ctx, h, s.Storage)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	_, err = h.Lstat(nextFile(s))
	st.Unchecked = err == nil
	return st, nil
}

func (e entry) observe(h host.Host) (File, error) {
	f := File{Path: e.path, WantMode: e.mode.String(), WantOwner: ids(e.owner)}
	if e.directory {
		f.WantMode = (e.mode | fs.ModeDir).String()
	}
	if e.content != nil {
		f.WantSHA256 = digest(e.content)
	}
	m, err := h.Lstat(e.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.Mode, f.Owner = m.Mode.String(), ids(host.Owner{UID: m.UID, GID: m.GID})
	if e.content != nil && m.Mode.IsRegular() {
		f.SHA256, err = h.Digest(e.path)
	}
	return f, err
}

func ids(o host.Owner) string { return fmt.Sprintf("%d:%d", o.UID, o.GID) }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func diffFiles(want spec.Traefik, have *Status) plan.Delta {
	var d plan.Delta
	for _, f := range have.Files {
		if f.Mode == "" {
			d.Compare(f.Path, "absent", "present")
			continue
		}
		d.Compare(f.Path+" mode", f.Mode, f.WantMode)
		d.Compare(f.Path+" owner", f.Owner, f.WantOwner)
		if f.WantSHA256 != "" {
			d.Compare(f.Path, short(f.SHA256), short(f.WantSHA256))
		}
		if f.Path == staticFile(want) {
			d.Compare(fieldInputs, have.Inputs, f.WantSHA256) // the unit's restart follows from it
		}
	}
	if have.Broken {
		d.Compare(want.Storage, "cannot be read", "moved aside and begun anew")
	}
	if have.Unchecked {
		d.Compare(nextFile(want), "left behind", "removed")
	}
	return d
}

func short(sum string) string { return sum[:min(12, len(sum))] }

func applyFiles(ctx context.Context, h host.Host, s spec.Traefik) error {
	list, err := entries(h, s)
	if err != nil {
		return err
	}
	if err := h.Remove(nextFile(s)); err != nil { // of an apply that was killed
		return err
	}
	for _, e := range list {
		if e.path == s.Storage {
			err = makeStorage(ctx, h, e)
		} else {
			err = e.put(ctx, h, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makeStorage begins with an empty one. What cannot be read stands in Traefik's way: it would do without ACME
// altogether.
func makeStorage(ctx context.Context, h host.Host, e entry) error {
	_, broken, err := readStorage(ctx, h, e.path)
	switch {
	case broken:
		if err := h.Rename(e.path, e.path+".broken"); err != nil {
			return err
		}
	case err == nil:
		return e.fix(h)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return h.WriteFile(e.path, nil, e.mode, e.owner)
}

func (e entry) put(ctx context.Context, h host.Host, s spec.Traefik) error {
	if e.directory {
		if err := h.MkdirAll(e.path, e.mode, e.owner); err != nil {
			return err
		}
		return e.fix(h)
	}
	f, err := e.observe(h)
	if err != nil {
		return err
	}
	if f.SHA256 == f.WantSHA256 {
		return e.fix(h)
	}
	if e.path == staticFile(s) {
		if err := check(ctx, h, s, e); err != nil {
			return err
		}
	}
	return h.WriteFile(e.path, e.content, e.mode, e.owner)
}

// fix sets mode and owner where they differ.
func (e entry) fix(h host.Host) error {
	m, err := h.Lstat(e.path)
	if err != nil {
		return err
	}
	if m.UID != e.owner.UID || m.GID != e.owner.GID {
		if err := h.Chown(e.path, e.owner); err != nil {
			return err
		}
	}
	if m.Mode == e.mode|m.Mode.Type() {
		return nil
	}
	return h.Chmod(e.path, e.mode)
}

// refusal begins what Traefik's healthcheck says of a file that it cannot read. It has no command that only checks, but
// this one reads the static file first; that no Traefik answers the check itself is of no interest.
const refusal = "command healthcheck error: "

// check has the real Traefik read the static file. It knows nested keys and types, but passes over an unknown key at
// the top.
func check(ctx context.Context, h host.Host, s spec.Traefik, e entry) error {
	if _, err := h.Lstat(s.Binary); errors.Is(err, fs.ErrNotExist) {
		return nil // the program comes later; the unit sees to it that it does
	}
	if err := h.WriteFile(nextFile(s), e.content, e.mode, e.owner); err != nil {
		return err
	}
	_, err := h.Run(ctx, host.Command{Argv: []string{s.Binary, "healthcheck", "--configFile=" + nextFile(s)}})
	if rmErr := h.Remove(nextFile(s)); rmErr != nil {
		return rmErr
	}
	var failed *host.RunError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &failed) || failed.Code < 0:
		return err
	case strings.Contains(failed.Output, refusal):
		return provider.Permanent(fmt.Errorf("traefik does not take the new configuration, the one in place stays: %w",
			err))
	}
	return nil
}
