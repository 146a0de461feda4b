package audit

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"time"
)

// certificate is the first certificate of a file.
type certificate struct {
	path     string
	from, to time.Time
	serial   string
	public   []byte
}

// private is a private key that could be read: the time it was made, and its public half. The key itself is forgotten.
type private struct {
	path   string
	made   time.Time
	public []byte
}

// pem looks for keys and certificates in a file, and reports whether a private key is in it.
func (s *inside) pem(f file) bool {
	if f.meta.Size > pemLimit || f.meta.Size == 0 {
		return false
	}
	b, err := s.h.ReadFile(f.path)
	if err != nil || !bytes.Contains(b, []byte("-----BEGIN ")) {
		return false
	}
	key, first := false, true
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			key = true
			if public := publicOf(block.Bytes); public != nil {
				s.private = append(s.private, private{f.path, f.meta.ModTime, public})
			}
		case block.Type == "CERTIFICATE" && first:
			first = false
			s.certificate(f.path, block.Bytes)
		}
	}
	return key
}

// certificate keeps a leaf; those of authorities outlive their keys' age on purpose.
func (s *inside) certificate(path string, der []byte) {
	c, err := x509.ParseCertificate(der)
	if err != nil || c.IsCA {
		return
	}
	s.certificates = append(s.certificates,
		certificate{path, c.NotBefore, c.NotAfter, c.SerialNumber.Text(16), c.RawSubjectPublicKeyInfo})
}

// publicOf is the public half of a key; nil: it is encrypted, or of a kind that nobody knows.
func publicOf(der []byte) []byte {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if ec, errEC := x509.ParseECPrivateKey(der); errEC == nil {
			key = ec
		} else if rsa, errRSA := x509.ParsePKCS1PrivateKey(der); errRSA == nil {
			key = rsa
		}
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil
	}
	return public
}

// keys compares certificates with the age of their keys and with one another.
func (s *inside) keys() {
	const fix = "make a new key with the next certificate, as phoenix does: phoenix cert renew --all"
	for _, c := range s.certificates {
		for _, k := range s.private {
			life := c.to.Sub(c.from)
			if bytes.Equal(c.public, k.public) && s.h.Now().Sub(k.made) > life && c.from.Sub(k.made) > time.Hour {
				s.add(ruleOldKey, s.object, fix, "the key of %s was made %s before the certificate, which lives %s",
					c.path, c.from.Sub(k.made).Round(time.Hour), life.Round(time.Minute))
				break
			}
		}
	}
	for i, c := range s.certificates {
		for _, first := range s.certificates[:i] {
			if bytes.Equal(c.public, first.public) && c.serial != first.serial {
				s.add(ruleOldKey, s.object, fix, "%s has the key of %s", c.path, first.path)
				break
			}
		}
	}
}
