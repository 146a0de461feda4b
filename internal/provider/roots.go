package provider

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Roots reads the root with the pinned fingerprint out of a file, and those of good that stand there too: while one
// root takes another's place, certificates may lead to either.
func Roots(h host.Host, path, fingerprint string, good []string) (*x509.CertPool, error) {
	text, err := h.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	pool, found, some := x509.NewCertPool(), false, ""
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		some = hex.EncodeToString(sum[:])
		if some != fingerprint && !slices.Contains(good, some) {
			continue
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("root certificate %s: %w", path, err)
		}
		pool.AddCert(root)
		found = found || some == fingerprint
	}
	switch {
	case found:
		return pool, nil
	case some == "":
		return nil, fmt.Errorf("root certificate %s is not PEM", path)
	}
	return nil, fmt.Errorf("root certificate %s has fingerprint %s, pinned is %s", path, some, fingerprint)
}

// Exposed says why a certificate, or what issued it, counts as known to others: it was issued before that time. Empty:
// it does not.
func Exposed(leaf *x509.Certificate, issuers []*x509.Certificate, since time.Time) string {
	switch {
	case since.IsZero():
		return ""
	case leaf.NotBefore.Add(spec.LeafBackdate).Before(since):
		return "issued before " + since.UTC().Format(time.RFC3339)
	case len(issuers) > 0 && issuers[0].NotBefore.Add(spec.CABackdate).Before(since):
		return "issued by an intermediate from before " + since.UTC().Format(time.RFC3339)
	}
	return ""
}
