// Package agent keeps the list of objects that phoenix's daemon inside a container looks after by itself. The daemon is
// a systemd unit, an object of its own that needs this one's digest.
package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const listMode fs.FileMode = 0o600

// Driver implements provider.Driver for spec.Agent. The zero value keeps the list where the daemon looks for it.
type Driver struct {
	Path string // empty: /etc/phoenix/agent.json
}

// Status is the list that stands there.
type Status struct {
	Digest  string    `json:"digest"` // lower-case hex SHA-256 of the file
	Objects int       `json:"objects"`
	Mode    spec.Mode `json:"mode"`
	Root    bool      `json:"root"` // it belongs to root
}

func (d Driver) path() string {
	if d.Path == "" {
		return "/etc/phoenix/agent.json"
	}
	return d.Path
}

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Agent, diag.List) {
	s, diags := provider.Decode[spec.Agent](raw)
	for i, o := range s.Objects {
		if o.Address == "" || o.Provider == "" {
			diags.Errorf("objects[%d] has no address or no provider", i)
		}
	}
	return s, diags
}

// Observe implements provider.Driver.
func (d Driver) Observe(_ context.Context, h host.Host, _ object.Address, _ spec.Agent) (*Status, error) {
	m, err := h.Lstat(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := &Status{Mode: spec.ModeOf(m.Mode), Root: m.UID == 0 && m.GID == 0}
	if !m.Mode.IsRegular() {
		return st, nil
	}
	b, err := h.ReadFile(d.path())
	if err != nil {
		return nil, err
	}
	st.Digest = sum(b)
	var have spec.Agent
	if json.Unmarshal(b, &have) == nil { // garbage has no objects
		st.Objects = len(have.Objects)
	}
	return st, nil
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Agent, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "no list of objects"}
	}
	var d plan.Delta
	if list, err := render(want); err == nil {
		d.Compare("digest", have.Digest, sum(list))
	}
	d.Compare("mode", fmt.Sprintf("%04o", have.Mode), fmt.Sprintf("%04o", spec.ModeOf(listMode)))
	d.Compare("owned by root", fmt.Sprint(have.Root), "true")
	return d
}

// Apply implements provider.Driver.
func (d Driver) Apply(_ context.Context, h host.Host, _ object.Address, want spec.Agent, _ plan.Delta) error {
	list, err := render(want)
	if err != nil {
		return provider.Permanent(err)
	}
	if err := h.MkdirAll(filepath.Dir(d.path()), 0o755, host.Root); err != nil {
		return err
	}
	return h.WriteFile(d.path(), list, listMode, host.Root)
}

// render is the same for the same objects: specs are compacted, for they may have come with blanks.
func render(s spec.Agent) ([]byte, error) {
	s.Objects = slices.Clone(s.Objects)
	for i := range s.Objects {
		var b bytes.Buffer
		if err := json.Compact(&b, s.Objects[i].Spec); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Objects[i].Address, err)
		}
		s.Objects[i].Spec = b.Bytes()
	}
	return json.MarshalIndent(s, "", " ")
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
