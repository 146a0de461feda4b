package stepca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/keybox"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Limits of what is read of an old CA's directory: certificates, keys and passwords are small.
const (
	oldFile  = 64 << 10
	oldWord  = 1 << 10 // of a password
	oldDepth = 8
	oldFiles = 500
)

// oldRoot finds the pinned root and its key among the files of a CA that was made otherwise, whatever their names are:
// the certificate by its fingerprint, the key by the certificate, the password by the key.
func oldRoot(h host.Host, s spec.StepCA) (pair, error) {
	var files [][]byte
	if err := gather(h, s.Import, oldDepth, &files); err != nil {
		return pair{}, fmt.Errorf("the files of the CA that was here before: %w", err)
	}
	if s.Pinned == "" {
		return pair{}, provider.Permanent(errors.New("no root is pinned, so that none can be known among the files " +
			"of the CA that was here before"))
	}
	cert := oldCertificate(files, s.Pinned)
	if cert == nil {
		return pair{}, provider.Permanent(fmt.Errorf("the pinned root, sha256 %s, is not among the files of the CA "+
			"that was here before", s.Pinned))
	}
	public, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return pair{}, provider.PermanentHint(fmt.Errorf("the root's key is a %T, not ECDSA", cert.PublicKey),
			"only a new root helps: --new-root")
	}
	if key := oldKey(files, public); key != nil {
		return pair{cert: cert, key: key}, nil
	}
	return pair{}, provider.PermanentHint(errors.New("the root's key is not among the files of the CA that was here "+
		"before, or none of them is its password"),
		"put the key and a file with its password there, or make a new root")
}

// gather reads the small files below dir. Links are not followed.
func gather(h host.Host, dir string, depth int, into *[][]byte) error {
	names, err := h.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		m, err := h.Lstat(path)
		switch {
		case err != nil:
			return err
		case m.Mode.IsDir() && depth > 0:
			err = gather(h, path, depth-1, into)
		case m.Mode.IsRegular() && m.Size <= oldFile && len(*into) < oldFiles:
			var raw []byte
			raw, err = h.ReadFile(path)
			*into = append(*into, raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blocks are all PEM blocks of the files.
func blocks(files [][]byte) []*pem.Block {
	var out []*pem.Block
	for _, raw := range files {
		for b, rest := pem.Decode(raw); b != nil; b, rest = pem.Decode(rest) {
			out = append(out, b)
		}
	}
	return out
}

func oldCertificate(files [][]byte, pinned string) *x509.Certificate {
	for _, b := range blocks(files) {
		if c, err := x509.ParseCertificate(b.Bytes); b.Type == "CERTIFICATE" && err == nil && fingerprint(c) == pinned {
			return c
		}
	}
	return nil
}

// oldKey opens each key with each password until one belongs to the certificate.
func oldKey(files [][]byte, public *ecdsa.PublicKey) *ecdsa.PrivateKey {
	var words [][]byte
	for _, raw := range files {
		if word := bytes.TrimRight(raw, "\r\n"); len(word) > 0 && len(word) <= oldWord &&
			!bytes.ContainsAny(word, "\n\x00") {
			words = append(words, word)
		}
	}
	for _, b := range blocks(files) {
		for _, der := range opened(b, words) {
			if key, ok := parseAny(der).(*ecdsa.PrivateKey); ok && key.PublicKey.Equal(public) {
				return key
			}
		}
	}
	return nil
}

// opened are what a block may be without its encryption: a wrong password now and then opens it to nonsense.
func opened(b *pem.Block, words [][]byte) [][]byte {
	switch {
	case b.Type == "ENCRYPTED PRIVATE KEY":
		var out [][]byte
		for _, word := range words {
			if key, err := keybox.Open(pem.EncodeToMemory(b), word); err == nil {
				if der, err := x509.MarshalPKCS8PrivateKey(key); err == nil {
					out = append(out, der)
				}
			}
		}
		return out
	case b.Headers["DEK-Info"] != "": // RFC 1423: how step writes a CA's keys
		var out [][]byte
		for _, word := range words {
			//lint:ignore SA1019 it is only read, to be encrypted well
			if der, err := x509.DecryptPEMBlock(b, word); err == nil {
				out = append(out, der)
			}
		}
		return out
	case b.Type == "EC PRIVATE KEY" || b.Type == "PRIVATE KEY":
		return [][]byte{b.Bytes}
	}
	return nil
}

func parseAny(der []byte) crypto.PrivateKey {
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	key, _ := x509.ParsePKCS8PrivateKey(der)
	return key
}
