package certificate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver.
func (dr Driver) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.Certificate, d plan.Delta) error {
	o, err := ownersOf(h, s)
	if err != nil {
		return fmt.Errorf("owner of the key: %w", err)
	}
	issued := d.Has(fieldCertificate)
	if issued {
		if err := dr.issue(ctx, h, s, o); err != nil {
			return err
		}
	}
	if err := tighten(h, s, o); err != nil {
		return err
	}
	if issued || d.Has(fieldServed) || d.Has(fieldReload) {
		if err := reload(ctx, h, s); err != nil {
			return err
		}
	}
	return layoutOf(s).sweep(h)
}

// issue orders a certificate for a new key and puts both in place.
func (dr Driver) issue(ctx context.Context, h host.Host, s spec.Certificate, o owners) error {
	ord, err := newOrder(h, s, dr.answerer(s))
	if err != nil {
		return err
	}
	key, err := keyTypes[s.KeyType]()
	if err != nil {
		return err
	}
	text, err := keyPEM(key)
	if err != nil {
		return err
	}
	id, err := versionID(key)
	if err != nil {
		return err
	}
	l := layoutOf(s)
	if err := l.stage(h, s, o, id, text); err != nil {
		return err
	}
	if err := ord.prepareAccount(); err != nil {
		return err
	}
	chain, err := ord.within(ctx, key)
	// another process may have been here meanwhile, and have taken the staged version for one left behind
	if err == nil {
		if _, gone := h.Lstat(filepath.Join(l.version(id), keyFile)); errors.Is(gone, fs.ErrNotExist) {
			err = l.stage(h, s, o, id, text)
		}
	}
	if err != nil {
		// The key was never used: it goes. If that fails too, the next look finds it as a version left behind.
		return errors.Join(err, h.RemoveAll(l.version(id)))
	}
	return l.place(h, s, o, id, chain)
}

// tighten sets modes and owners that differ.
func tighten(h host.Host, s spec.Certificate, o owners) error {
	for _, w := range wanted(h, s, o) {
		m, err := h.Lstat(w.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if own := w.ownerOf(m); own.UID != m.UID || own.GID != m.GID {
			if err := h.Chown(w.path, own); err != nil {
				return err
			}
			if m, err = h.Lstat(w.path); err != nil { // chown takes setuid bits away
				return err
			}
		}
		if octal(m.Mode) == octal(w.mode(m.Mode)) {
			continue
		}
		if err := h.Chmod(w.path, w.mode(m.Mode)); err != nil {
			return err
		}
	}
	return nil
}

// reload makes whoever serves the certificate take the one on disk, and sees to it that he did.
func reload(ctx context.Context, h host.Host, s spec.Certificate) error {
	before := ""
	if s.Served != "" {
		before, _ = served(ctx, h, s)
	}
	if lookReload(ctx, h, s).pending != "" {
		return nil // the marker stays: it is looked at again, and no dependent waits for it
	}
	if len(s.Reload) > 0 {
		// the user's own command, which may hang
		err := provider.Alone(ctx, "reload/"+s.CommonName, func(ctx context.Context) error {
			_, err := h.Run(ctx, host.Command{Argv: s.Reload, Mutates: true})
			return err
		})
		if err != nil {
			return fmt.Errorf("the certificate for %s is in place, the reload failed: %w", s.CommonName, err)
		}
	}
	if s.Served != "" {
		// nothing is changed meanwhile, and a server that takes its time keeps nobody from anything
		err := provider.Wait(ctx, func(ctx context.Context) error { return awaitServed(ctx, h, s, before) })
		if err != nil {
			return err
		}
	}
	return h.Remove(layoutOf(s).marker())
}
