package traefik

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// stored is one resolver's part of acme.json (StoredData in Traefik's pkg/provider/acme).
type stored struct {
	Account      json.RawMessage
	Certificates []json.RawMessage
}

// storedCert is what is looked at of one certificate; the rest is kept as it is.
type storedCert struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`
}

// Traefik truncates the file and writes it anew: for a moment half of it may be there.
const (
	readAgain = 20 * time.Millisecond
	readTimes = 10
)

// readStorage gives the resolvers; broken where the file holds no such thing.
func readStorage(ctx context.Context, h host.Host, path string) (all map[string]json.RawMessage,
	broken bool, err error) {
	for range readTimes {
		text, err := h.ReadFile(path)
		if err != nil {
			return nil, false, err
		}
		all = map[string]json.RawMessage{}
		if len(text) == 0 || json.Unmarshal(text, &all) == nil && wellFormed(all) {
			return all, false, nil
		}
		if err := pause(ctx, readAgain); err != nil {
			return nil, false, err
		}
	}
	return nil, true, nil
}

func wellFormed(all map[string]json.RawMessage) bool {
	for _, raw := range all {
		var s stored
		if json.Unmarshal(raw, &s) != nil {
			return false
		}
	}
	return true
}

// storedLeaves are the certificates that the storage has for Traefik's resolver; what cannot be read is passed over.
func storedLeaves(all map[string]json.RawMessage) []*x509.Certificate {
	var data stored
	if json.Unmarshal(all[resolver], &data) != nil {
		return nil
	}
	var out []*x509.Certificate
	for _, raw := range data.Certificates {
		var c storedCert
		if json.Unmarshal(raw, &c) != nil {
			continue
		}
		block, _ := pem.Decode(c.Certificate)
		if block == nil {
			continue
		}
		if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, leaf)
		}
	}
	return out
}

// purge takes out of the storage what Traefik will not replace by itself: certificates that are expired or not under
// the pinned root, and the account, which a CA that was made anew does not know. Good certificates stay in use.
func purge(ctx context.Context, h host.Host, s spec.Traefik, roots *x509.CertPool) error {
	all, broken, err := readStorage(ctx, h, s.Storage)
	if errors.Is(err, fs.ErrNotExist) || broken {
		return nil // config makes it
	}
	if err != nil {
		return err
	}
	var data stored
	if raw, there := all[resolver]; there {
		if err := json.Unmarshal(raw, &data); err != nil {
			return err
		}
	}
	keep := stored{}
	for _, raw := range data.Certificates {
		var c storedCert
		if json.Unmarshal(raw, &c) == nil && good(c, s, roots, h.Now()) {
			keep.Certificates = append(keep.Certificates, raw)
		}
	}
	if all[resolver], err = json.Marshal(keep); err != nil {
		return err
	}
	owner, err := h.Lookup(s.User, "")
	if err != nil {
		return err
	}
	if err := noteAccount(h, s, data.Account); err != nil {
		return err
	}
	return h.WriteFile(s.Storage, encode(all), storageMode, owner)
}

const accountsMost = 16

// noteCurrent writes down the account that the storage has now: a storage that becomes garbage tells nobody whose it
// was.
func noteCurrent(ctx context.Context, h host.Host, s spec.Traefik) error {
	all, broken, err := readStorage(ctx, h, s.Storage)
	if err != nil || broken {
		return nil // what cannot be read has no account, and is for the next look
	}
	var data stored
	if json.Unmarshal(all[resolver], &data) != nil {
		return nil
	}
	return noteAccount(h, s, data.Account)
}

// noteAccount writes down whose account the storage had, before it has none: what it ordered is this container's too.
func noteAccount(h host.Host, s spec.Traefik, raw json.RawMessage) error {
	print, path, list := thumbprint(raw), s.Storage+issued.FormerAccounts, formerAccounts(h, s)
	if print == "" || slices.Contains(list, print) {
		return nil
	}
	list = append(list, print)
	text, err := json.Marshal(list[max(0, len(list)-accountsMost):])
	if err != nil {
		return err
	}
	return h.WriteFile(path, append(text, '\n'), 0o600, host.Root)
}

// thumbprint is that of a stored account; empty: it has no key.
func thumbprint(raw json.RawMessage) string {
	var account struct{ PrivateKey []byte }
	if len(raw) == 0 || json.Unmarshal(raw, &account) != nil {
		return ""
	}
	return issued.Thumbprint(account.PrivateKey)
}

// formerAccounts are those that were written down beside the storage.
func formerAccounts(h host.Host, s spec.Traefik) []string {
	var list []string
	text, err := h.ReadFile(s.Storage + issued.FormerAccounts)
	if err != nil || json.Unmarshal(text, &list) != nil {
		return nil
	}
	return list
}

// accounts are those that Traefik orders with and ordered with before.
func accounts(h host.Host, s spec.Traefik, all map[string]json.RawMessage) []string {
	list := formerAccounts(h, s)
	var data stored
	if json.Unmarshal(all[resolver], &data) == nil {
		if print := thumbprint(data.Account); print != "" && !slices.Contains(list, print) {
			list = append(list, print)
		}
	}
	return list
}

func good(c storedCert, s spec.Traefik, roots *x509.CertPool, now time.Time) bool {
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil || verify(pair.Certificate, roots, "", now) != nil {
		return false
	}
	chain := make([]*x509.Certificate, len(pair.Certificate))
	for i, der := range pair.Certificate {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return false
		}
	}
	return replaced(chain[0], chain[1:], s) == ""
}

// verify checks a chain of DER certificates, leaf first, for a name; for none where it is empty.
func verify(chain [][]byte, roots *x509.CertPool, name string, now time.Time) error {
	inters := x509.NewCertPool()
	var leaf *x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if leaf == nil {
			leaf = c
			continue
		}
		inters.AddCert(c)
	}
	if leaf == nil {
		return errors.New("no certificate")
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inters, DNSName: name, CurrentTime: now})
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
