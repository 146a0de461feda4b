package trust

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	fetchLimit = 10 * time.Second
	rootsLimit = 1 << 20 // bytes
)

// fetch gets the CA's roots (step-ca's /roots.pem) as PEM. None of them is believed before its fingerprint was
// compared.
func fetch(ctx context.Context, h host.Host, s spec.Trust) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	transport := &http.Transport{
		DialContext: h.Dial,
		// Not verified, because the root that could verify it is what is being fetched. Its digest is checked below.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	url := strings.TrimSuffix(s.Server, "/") + "/roots.pem"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// No redirect is followed: the fingerprint belongs to this server.
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("get the root from %s: %w", url, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, rootsLimit))
	if err != nil {
		return nil, fmt.Errorf("get the root from %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get the root from %s: the server answers %s", url, resp.Status)
	}
	return raw, nil
}

// find gives the one with that fingerprint as PEM; nil: it is not there.
func find(raw []byte, fingerprint string) []byte {
	for rest := raw; ; {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			return nil
		}
		if p.Type == "CERTIFICATE" && fingerprintOf(p.Bytes) == fingerprint {
			return encode(p.Bytes)
		}
	}
}

// notOffered is a permanent error: whether that is a new CA or an attack is for a person to say.
func notOffered(s spec.Trust, fingerprint string, offered []byte) error {
	return provider.PermanentHint(
		fmt.Errorf("the CA at %s does not have the pinned root: pinned is sha256 %s, it offers %q", s.Server,
			fingerprint,
			strings.Join(fingerprints(offered), " ")),
		"if the CA was lost and made anew: phoenix create ID --new-root, with the id of its container; if not, "+
			"somebody else answers at that address")
}
