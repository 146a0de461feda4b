package certificate

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/mholt/acmez/v3/acme"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// stored is an ACME account on disk: key and address in one file, so that they always belong together.
type stored struct {
	Directory string `json:"directory"`
	Location  string `json:"location"`
	Key       string `json:"key"` // PKCS #8, PEM
	// Before are the thumbprints of earlier accounts (RFC 7638): what they ordered is this container's too.
	Before []string `json:"before,omitempty"`
}

const beforeMost = 16

// formerAccounts are those that a new account takes the place of, the latest last.
func formerAccounts(h host.Host, s spec.Certificate) []string {
	raw, err := h.ReadFile(accountFile(s))
	var f stored
	if err != nil || json.Unmarshal(raw, &f) != nil {
		return nil
	}
	if block, _ := pem.Decode([]byte(f.Key)); block != nil {
		if print := issued.Thumbprint(block.Bytes); print != "" && !slices.Contains(f.Before, print) {
			f.Before = append(f.Before, print)
		}
	}
	return f.Before[max(0, len(f.Before)-beforeMost):]
}

func accountFile(s spec.Certificate) string { return filepath.Join(s.AccountDir, "account.json") }

// loadAccount gives fs.ErrNotExist where there is no account at this CA.
func loadAccount(h host.Host, s spec.Certificate) (acme.Account, error) {
	raw, err := h.ReadFile(accountFile(s))
	if err != nil {
		return acme.Account{}, err
	}
	var f stored
	if err := json.Unmarshal(raw, &f); err != nil {
		return acme.Account{}, fmt.Errorf("%s cannot be read: %w", accountFile(s), err)
	}
	if f.Directory != s.ACME.Directory {
		return acme.Account{}, fmt.Errorf("%s is of %s: %w", accountFile(s), f.Directory, fs.ErrNotExist)
	}
	key, err := parseKey([]byte(f.Key))
	if err != nil {
		return acme.Account{}, fmt.Errorf("%s: %w", accountFile(s), err)
	}
	return acme.Account{Status: acme.StatusValid, Location: f.Location, PrivateKey: key}, nil
}

// accountState is for the status: an unreadable account is no drift, the next order makes a new one.
func accountState(h host.Host, s spec.Certificate) string {
	_, err := loadAccount(h, s)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, fs.ErrNotExist):
		return "none"
	}
	return "unreadable"
}

// account gives the account, made now if there is none that can be read.
func (o *order) loadOrRegister(ctx context.Context) error {
	a, err := loadAccount(o.host, o.spec)
	if err != nil {
		return o.register(ctx)
	}
	o.account = a
	return nil
}

// registering keeps the orders of one process from making an account each, of which only the last would be kept.
var registering sync.Mutex

// register makes a new account with a new key and keeps it, unless another order has done so meanwhile.
func (o *order) register(ctx context.Context) error {
	registering.Lock()
	defer registering.Unlock()
	if a, err := loadAccount(o.host, o.spec); err == nil && a.Location != o.account.Location {
		o.account = a
		return nil
	}
	key, err := keyTypes["ec-p256"]()
	if err != nil {
		return err
	}
	a, err := o.client.NewAccount(ctx, acme.Account{TermsOfServiceAgreed: true, PrivateKey: key})
	if err != nil {
		return fmt.Errorf("register at the CA: %w", err)
	}
	text, err := keyPEM(key)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(stored{Directory: o.spec.ACME.Directory, Location: a.Location, Key: string(text), Before: formerAccounts(o.host, o.spec)})
	if err != nil {
		return err
	}
	o.account = a
	// The folder above is not the account's own: a webroot that others must reach may stand in it.
	if err := o.host.MkdirAll(filepath.Dir(o.spec.AccountDir), 0o711, host.Root); err != nil {
		return err
	}
	if err := o.host.MkdirAll(o.spec.AccountDir, 0o700, host.Root); err != nil {
		return err
	}
	return o.host.WriteFile(accountFile(o.spec), raw, 0o600, host.Root)
}
