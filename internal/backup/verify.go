package backup

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/keybox"
)

// verified are the certificates of a complete set of keys, by directory.
type verified map[string]*x509.Certificate

func (v verified) fingerprint() string { return fingerprint(v[rootDirectory]) }

// issuers are the directories whose root may have signed what is in another directory.
var issuers = map[string][]string{"intermediate": {rootDirectory, "old-root"},
	"next-intermediate": {"next-root", rootDirectory}}

// verify checks that a set of files is what a CA works with: each directory complete, each key that of its certificate
// and opened by its password, roots signed by themselves and intermediates by a root of the set.
func verify(all []file) (verified, error) {
	sets := map[string]map[string][]byte{}
	for _, f := range all {
		if sets[f.directory] == nil {
			sets[f.directory] = map[string][]byte{}
		}
		sets[f.directory][f.name] = f.data
	}
	if sets[rootDirectory] == nil {
		return nil, errors.New("there is no root in it")
	}
	out := verified{}
	for _, directory := range directories {
		if sets[directory] == nil {
			continue
		}
		cert, err := pairOf(sets[directory])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", directory, err)
		}
		out[directory] = cert
	}
	for _, directory := range directories {
		if out[directory] == nil {
			continue
		}
		if err := out.chain(directory); err != nil {
			return nil, fmt.Errorf("%s: %w", directory, err)
		}
	}
	return out, nil
}

// pairOf is the certificate of a directory whose key belongs to it.
func pairOf(set map[string][]byte) (*x509.Certificate, error) {
	for _, name := range names {
		if len(set[name]) == 0 {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	cert, err := parse(set[rootFile])
	if err != nil {
		return nil, err
	}
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return nil, errors.New("the certificate is not that of an authority")
	}
	var key *ecdsa.PrivateKey
	err = keybox.ErrPassword
	for _, word := range strings.Fields(string(set[passwordFile])) { // several while it is being changed
		if key, err = keybox.Open(set[keyFile], []byte(word)); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the key does not belong to the certificate")
	}
	return cert, nil
}

func (v verified) chain(directory string) error {
	cert, by := v[directory], issuers[directory]
	if by == nil {
		if cert.CheckSignatureFrom(cert) != nil {
			return errors.New("the certificate is not signed by itself")
		}
		return nil
	}
	for _, issuer := range by {
		if root := v[issuer]; root != nil && cert.CheckSignatureFrom(root) == nil {
			return nil
		}
	}
	return errors.New("the certificate is signed by no root that is in the backup")
}
