package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// fakeInside replaces the drivers of what is inside a container: their objects are files in dir. Specs are still
// decoded by the real ones. The CA's root is a random number on its volume, so that a second one is seen.
func fakeInside(drivers engine.Drivers, dir, volumes string) {
	for name, d := range drivers {
		switch _, kind, _ := strings.Cut(name, "/"); kind {
		case "user", "package", "file", "script", "certificate", "trust", "unit", "nginx", "traefik", "agent":
			drivers[name] = fake{Erased: d, dir: dir}
		case "stepca":
			drivers[name] = fake{Erased: d, dir: dir, root: filepath.Join(volumes, "ssl", "root")}
		}
	}
}

// fake keeps an object as a file.
type fake struct {
	provider.Erased
	dir  string
	root string // of a CA; empty: it is none
}

type status struct {
	Spec        string `json:"spec"`
	Fingerprint string `json:"root_fingerprint,omitempty"`
	Inputs      string `json:"inputs"`
	Digest      string `json:"digest"`
}

func (f fake) path(o object.Object) string {
	return filepath.Join(f.dir, strings.ReplaceAll(string(o.Address), "/", "_"))
}

// want is what the object's file should say. What is pinned is known only after the first run and changes nothing.
func (f fake) want(o object.Object) (string, error) {
	var s map[string]any
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		return "", err
	}
	if f.root != "" {
		delete(s, "pinned")
		delete(s, "import")
		delete(s, "first_root") // a person's word for one run
	}
	delete(s, "new_root")
	b, err := json.Marshal(s)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

func (f fake) Observe(_ context.Context, h host.Host, o object.Object) (provider.Observation, error) {
	if err := f.Decode(o.Spec).Err(); err != nil {
		return provider.Observation{}, provider.Permanent(err)
	}
	want, err := f.want(o)
	if err != nil {
		return provider.Observation{}, err
	}
	have, err := h.ReadFile(f.path(o))
	if errors.Is(err, fs.ErrNotExist) {
		return provider.Observation{Delta: plan.Delta{Action: plan.Create, Reason: "it does not exist"}}, nil
	}
	if err != nil {
		return provider.Observation{}, err
	}
	st := status{Spec: string(have), Inputs: want, Digest: want}
	var d plan.Delta
	d.Compare("spec", st.Spec, want)
	if f.root != "" {
		root, err := h.ReadFile(f.root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return provider.Observation{}, err
		}
		st.Fingerprint = string(root)
		if st.Fingerprint == "" {
			d.Compare("root", "", "there")
		}
	}
	raw, err := json.Marshal(st)
	return provider.Observation{Status: raw, Delta: d}, err
}

func (f fake) Apply(_ context.Context, h host.Host, o object.Object, _ plan.Delta) error {
	if err := f.makeRoot(h, o); err != nil {
		return err
	}
	want, err := f.want(o)
	if err != nil {
		return err
	}
	return h.WriteFile(f.path(o), []byte(want), 0o644, host.Root)
}

func (f fake) makeRoot(h host.Host, o object.Object) error {
	if f.root == "" {
		return nil
	}
	if _, err := h.Lstat(f.root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var s struct {
		Pinned string `json:"pinned"`
		Import string `json:"import"`
		First  bool   `json:"first_root"`
		New    bool   `json:"new_root"`
	}
	if err := json.Unmarshal(o.Spec, &s); err != nil {
		return err
	}
	if s.Pinned != "" && s.Import != "" { // handed over from a CA that was there before
		if names, err := h.ReadDir(filepath.Join(filepath.Dir(f.dir), s.Import)); err == nil && len(names) > 0 {
			return h.WriteFile(f.root, []byte(s.Pinned), 0o600, host.Root)
		}
	}
	if s.Pinned == "" && !s.First && !s.New {
		return provider.Permanent(errors.New("the volume has no root, and only a person may have the first one made"))
	}
	if s.Pinned != "" && !s.New {
		return provider.Permanent(errors.New("a root is pinned, and the volume has none"))
	}
	root := make([]byte, 32)
	if _, err := rand.Read(root); err != nil {
		return err
	}
	return h.WriteFile(f.root, []byte(hex.EncodeToString(root)), 0o600, host.Root)
}
