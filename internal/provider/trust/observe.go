package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Status is what the trust store has under one name.
type Status struct {
	Path         string   `json:"path"`         // our file among the local roots
	Fingerprints []string `json:"fingerprints"` // of all certificates in that file
	Mode         string   `json:"mode"`         // and owner, as 0644 0:0
	Bundled      bool     `json:"bundled"`      // the wanted roots are in the bundle
	Linked       bool     `json:"linked"`       // and OpenSSL finds them by their hash
	// roots of our file, or the one that is gone, that are not wanted but in the bundle
	Foreign []string `json:"foreign,omitempty"`
	Left    []string `json:"left,omitempty"` // files of roots that are not wanted any more
}

const goodMode = "0644 0:0"

// shortHex is how a single root's file ends.
var shortHex = regexp.MustCompile(`^[0-9a-f]{8}$`)

// hashLink is the name under which OpenSSL looks a subject up.
var hashLink = regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)

// Observe implements provider.Driver.
func (Driver) Observe(_ context.Context, h host.Host, _ object.Address, s spec.Trust) (*Status, error) {
	raw, err := h.ReadFile(localFile(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := h.Lstat(localFile(s))
	if err != nil {
		return nil, err
	}
	all, err := h.ReadFile(bundle)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	st := &Status{Path: localFile(s), Fingerprints: fingerprints(raw), Mode: modeOf(m)}
	bundled, want := fingerprints(all), trusted(s)
	st.Bundled = !slices.ContainsFunc(want, func(f string) bool { return !slices.Contains(bundled, f) })
	for _, f := range append(slices.Clone(st.Fingerprints), s.Gone) {
		if !slices.Contains(want, f) && slices.Contains(bundled, f) {
			st.Foreign = append(st.Foreign, f)
		}
	}
	if st.Left, err = left(h, s); err != nil {
		return nil, err
	}
	st.Linked, err = linked(h, s)
	return st, err
}

// left are files of roots that were trusted for a while.
func left(h host.Host, s spec.Trust) ([]string, error) {
	all, err := h.ReadDir(localDir)
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	var out []string
	for _, n := range all {
		name, ok := strings.CutSuffix(n, ".crt")
		tail, own := strings.CutPrefix(name, s.Name+"-")
		if ok && own && shortHex.MatchString(tail) && !slices.Contains(names(s), name) {
			out = append(out, n)
		}
	}
	return out, nil
}

// linked reports whether the store links to our files by name and by hash.
func linked(h host.Host, s spec.Trust) (bool, error) {
	hashed, err := hashLinks(h)
	if err != nil {
		return false, ignoreAbsent(err)
	}
	for _, name := range names(s) {
		if to, err := h.Readlink(linkOf(name)); err != nil || to != filepath.Join(localDir, name+".crt") {
			return false, ignoreAbsent(err)
		}
		if !slices.Contains(hashed, name+".pem") {
			return false, nil
		}
	}
	return true, nil
}

// hashLinks are what OpenSSL's links by hash point to.
func hashLinks(h host.Host) ([]string, error) {
	all, err := h.ReadDir(storeDir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range all {
		if !hashLink.MatchString(n) {
			continue
		}
		if to, err := h.Readlink(storeDir + "/" + n); err == nil {
			out = append(out, to)
		}
	}
	return out, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fingerprints are the SHA-256 of all certificates in PEM.
func fingerprints(raw []byte) []string {
	var out []string
	for {
		var p *pem.Block
		if p, raw = pem.Decode(raw); p == nil {
			return out
		}
		if p.Type == "CERTIFICATE" {
			out = append(out, fingerprintOf(p.Bytes))
		}
	}
}

func fingerprintOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Trust, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the root is not in the trust store"}
	}
	var d plan.Delta
	d.Compare("fingerprint", strings.Join(have.Fingerprints, " "), strings.Join(trusted(want), " "))
	d.Compare("mode", have.Mode, goodMode)
	d.Compare("bundled", yes(have.Bundled), yes(true))
	d.Compare("linked", yes(have.Linked), yes(true))
	d.Compare("foreign", strings.Join(have.Foreign, " "), "")
	d.Compare("left behind", strings.Join(have.Left, " "), "")
	return d
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
