package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/user"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// What stands at a path.
const (
	isFile      = "file"
	isDirectory = "folder"
	isLink      = "symbolic link"
	isOther     = "special file"
)

// Status is what was seen at the path.
type Status struct {
	Kind string `json:"kind"`
	Size int64  `json:"size"` // bytes
	// lower-case hex; empty: not read, because the size alone tells that it differs
	SHA256 string    `json:"sha256,omitempty"`
	Mode   spec.Mode `json:"mode"`
	Owner  string    `json:"owner"` // uid:gid
	// uid:gid of the spec's owner here; empty: this host knows no such user or group yet
	Wanted string `json:"wanted,omitempty"`
}

// Observe implements provider.Driver.
func (Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.File) (*Status, error) {
	m, err := h.Lstat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := &Status{Kind: kind(m.Mode), Mode: spec.ModeOf(m.Mode), Owner: ids(host.Owner{UID: m.UID, GID: m.GID})}
	if st.Wanted, err = wanted(h, s); err != nil {
		return nil, err
	}
	if st.Kind != isFile || s.Directory {
		return st, nil
	}
	st.Size = m.Size
	st.SHA256, err = digest(h, s, m)
	return st, err
}

// digest reads no more than is needed to tell whether the content is the wanted one.
func digest(h host.Host, s spec.File, m host.Meta) (string, error) {
	switch {
	case s.SHA256 == "" && m.Size != int64(len(s.Content)):
		return "", nil
	case s.SHA256 != "" && m.ModTime.Equal(provider.Stamp(s.SHA256)):
		return s.SHA256, nil
	}
	return h.Digest(s.Path)
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return isFile
	case m.IsDir():
		return isDirectory
	case m&fs.ModeSymlink != 0:
		return isLink
	}
	return isOther
}

// wanted is the spec's owner as ids; empty where this host does not know the user or the group: another object makes
// them first.
func wanted(h host.Host, s spec.File) (string, error) {
	o, err := h.Lookup(s.Owner, s.Group)
	var noUser user.UnknownUserError
	var noGroup user.UnknownGroupError
	if errors.As(err, &noUser) || errors.As(err, &noGroup) {
		return "", nil
	}
	return ids(o), err
}

func ids(o host.Owner) string { return fmt.Sprintf("%d:%d", o.UID, o.GID) }
