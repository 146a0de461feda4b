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
	a, err := loadAccount(h, s)
	switch {
	case err == nil && a.Location == "":
		return "none"
	case err == nil:
		return "ok"
	case errors.Is(err, fs.ErrNotExist):
		return "none"
	}
	return "unreadable"
}

// prepareAccount makes the key of the account where there is none, and keeps it before the CA hears of it. It is called
// under the lock that others wait for, so that of all who order at once each uses the one account: the CA gives the
// same one for the same key (RFC 8555, section 7.3).
func (o *order) prepareAccount() error {
	if _, err := loadAccount(o.host, o.spec); err == nil {
		return nil
	}
	key, err := keyTypes["ec-p256"]()
	if err != nil {
		return err
	}
	return o.keepAccount(acme.Account{PrivateKey: key})
}

// loadOrRegister gives the account, registered now if the CA was not asked for it yet.
func (o *order) loadOrRegister(ctx context.Context) error {
	a, err := loadAccount(o.host, o.spec)
	if err != nil {
		return err
	}
	o.account = a
	if a.Location != "" {
		return nil
	}
	return o.register(ctx)
}

// registering keeps the orders of one process from writing the account at once.
var registering sync.Mutex

// replaceAccount takes another account than the one that the CA does not take any more, unless another order has done
// so meanwhile.
func (o *order) replaceAccount(ctx context.Context, inactive bool) error {
	registering.Lock()
	a, err := loadAccount(o.host, o.spec)
	registering.Unlock()
	if err == nil && a.Location != "" && a.Location != o.account.Location {
		o.account = a
		return nil
	}
	if inactive { // its key is no more of use
		key, err := keyTypes["ec-p256"]()
		if err != nil {
			return err
		}
		o.account = acme.Account{PrivateKey: key}
	}
	return o.register(ctx)
}

// register asks the CA for the account of the key, and keeps where it is.
func (o *order) register(ctx context.Context) error {
	a, err := o.client.NewAccount(ctx, acme.Account{TermsOfServiceAgreed: true, PrivateKey: o.account.PrivateKey})
	if err != nil {
		return fmt.Errorf("register at the CA: %w", err)
	}
	o.account = a
	registering.Lock()
	defer registering.Unlock()
	return o.keepAccount(a)
}

// keepAccount writes the account, and the thumbprints of those that were in its place.
func (o *order) keepAccount(a acme.Account) error {
	text, err := keyPEM(a.PrivateKey)
	if err != nil {
		return err
	}
	f := stored{Directory: o.spec.ACME.Directory, Location: a.Location, Key: string(text),
		Before: formerAccounts(o.host, o.spec)}
	if block, _ := pem.Decode(text); block != nil {
		own := issued.Thumbprint(block.Bytes)
		f.Before = slices.DeleteFunc(f.Before, func(print string) bool { return print == own })
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	// The directory above is not the account's own: a webroot that others must reach may stand in it.
	if err := o.host.MkdirAll(filepath.Dir(o.spec.AccountDir), 0o711, host.Root); err != nil {
		return err
	}
	if err := o.host.MkdirAll(o.spec.AccountDir, 0o700, host.Root); err != nil {
		return err
	}
	return o.host.WriteFile(accountFile(o.spec), raw, 0o600, host.Root)
}
