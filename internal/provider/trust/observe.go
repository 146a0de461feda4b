package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
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
	Path         string   `json:"path"`              // our file among the local roots
	Fingerprints []string `json:"fingerprints"`      // of all certificates in that file
	Mode         string   `json:"mode"`              // and owner, as 0644 0:0
	Bundled      bool     `json:"bundled"`           // the wanted root is in the bundle
	Linked       bool     `json:"linked"`            // and OpenSSL finds it by its hash
	Foreign      []string `json:"foreign,omitempty"` // roots of our file's name that are not the wanted one but in the bundle
}

const goodMode = "0644 0:0"

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
	trusted := fingerprints(all)
	st.Bundled = slices.Contains(trusted, s.Fingerprint)
	for _, f := range st.Fingerprints {
		if f != s.Fingerprint && slices.Contains(trusted, f) {
			st.Foreign = append(st.Foreign, f)
		}
	}
	st.Linked, err = linked(h, s)
	return st, err
}

// linked reports whether the store links to our file by name and by hash.
func linked(h host.Host, s spec.Trust) (bool, error) {
	if to, err := h.Readlink(link(s)); err != nil || to != localFile(s) {
		return false, ignoreAbsent(err)
	}
	names, err := h.ReadDir(storeDir)
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if !hashLink.MatchString(n) {
			continue
		}
		if to, err := h.Readlink(storeDir + "/" + n); err == nil && to == s.Name+".pem" {
			return true, nil
		}
	}
	return false, nil
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
	d.Compare("fingerprint", strings.Join(have.Fingerprints, " "), want.Fingerprint)
	d.Compare("mode", have.Mode, goodMode)
	d.Compare("bundled", yes(have.Bundled), yes(true))
	d.Compare("linked", yes(have.Linked), yes(true))
	d.Compare("foreign", strings.Join(have.Foreign, " "), "")
	return d
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
