package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Key opens a backup, or is what one is made for: a passphrase, recipients (to make one), or identities (to open
// one).
type Key struct {
	Password   []byte   `json:"password,omitempty"`
	Recipients []string `json:"recipients,omitempty"` // age1…
	Identity   []byte   `json:"identity,omitempty"`   // what an identity file of age holds
}

// A container's memory bounds what may be spent on stretching a passphrase: 64 MiB for ours, 256 MiB for those of
// age's own tool.
var workFactor = 16

const (
	maxWorkFactor = 18

	ageMagic   = "age-encryption.org/"
	armorMagic = "-----BEGIN AGE ENCRYPTED FILE-----"
)

// CheckRecipients fails where one of the lines is no recipient. Empty lines and those that begin with # are passed
// over.
func CheckRecipients(lines []string) ([]string, error) {
	var out []string
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(strings.ToUpper(line), "AGE-SECRET-KEY") { // and is not shown
			return nil, errors.New("an identity is no recipient: it begins with age1")
		}
		if _, err := age.ParseRecipients(strings.NewReader(line)); err != nil {
			return nil, fmt.Errorf("%.80q is no recipient: it begins with age1", line)
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		return nil, errors.New("no recipient is named")
	}
	return out, nil
}

// CheckIdentity fails where a file holds no identity of age. It says nothing of what is in it.
func CheckIdentity(raw []byte) error {
	if _, err := age.ParseIdentities(bytes.NewReader(raw)); err != nil {
		return errors.New("it holds no identity of age (AGE-SECRET-KEY-…); one that is encrypted is opened with " +
			"age first")
	}
	return nil
}

// CheckSealed fails where a file cannot be a backup, before anything is done for it.
func CheckSealed(sealed []byte) error {
	switch {
	case len(sealed) == 0:
		return errors.New("the file is empty: there is no backup in it")
	case len(sealed) > Limit:
		return fmt.Errorf("the file has %d bytes: no backup of a CA is larger than %d", len(sealed), Limit)
	case bytes.HasPrefix(sealed, []byte(ageMagic)), bytes.HasPrefix(sealed, []byte(armorMagic)),
		bytes.HasPrefix(sealed, []byte(magic)):
		return nil
	}
	return errors.New("this is no backup of phoenix")
}

func (k Key) recipients() ([]age.Recipient, error) {
	if len(k.Recipients) > 0 {
		return age.ParseRecipients(strings.NewReader(strings.Join(k.Recipients, "\n")))
	}
	if err := longEnough(k.Password); err != nil {
		return nil, err
	}
	r, err := age.NewScryptRecipient(string(k.Password))
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(workFactor)
	return []age.Recipient{r}, nil
}

func (k Key) encrypt(plain []byte) ([]byte, error) {
	to, err := k.recipients()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

func (k Key) identities() ([]age.Identity, error) {
	if len(k.Identity) > 0 {
		if err := CheckIdentity(k.Identity); err != nil {
			return nil, err
		}
		return age.ParseIdentities(bytes.NewReader(k.Identity))
	}
	if err := longEnough(k.Password); err != nil {
		return nil, err
	}
	i, err := age.NewScryptIdentity(string(k.Password))
	if err != nil {
		return nil, err
	}
	i.SetMaxWorkFactor(maxWorkFactor)
	return []age.Identity{i}, nil
}

var errIdentity = errors.New("it was made for a passphrase or for other recipients: the identity does not open it")

// decrypt opens a file of either format.
func (k Key) decrypt(sealed []byte) ([]byte, error) {
	if err := CheckSealed(sealed); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(sealed, []byte(magic)) {
		if len(k.Password) == 0 {
			return nil, errors.New("it was made with a password: --password-file")
		}
		return openOld(sealed, k.Password)
	}
	who, err := k.identities()
	if err != nil {
		return nil, err
	}
	var source io.Reader = bytes.NewReader(sealed)
	if bytes.HasPrefix(sealed, []byte(armorMagic)) {
		source = armor.NewReader(source)
	}
	r, err := age.Decrypt(source, who...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none) && len(k.Identity) > 0:
		return nil, errIdentity
	case err != nil:
		return nil, errPassword
	}
	plain, err := io.ReadAll(io.LimitReader(r, totalLimit))
	if err != nil {
		return nil, errors.New("the file was changed, or cut off")
	}
	return plain, nil
}

func longEnough(password []byte) error {
	if len(password) < PasswordMin {
		return fmt.Errorf("a password for the CA's keys needs %d characters at least", PasswordMin)
	}
	return nil
}

// ctx is for commands that have their own limit.
func ctx() context.Context { return context.Background() }
