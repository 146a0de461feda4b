package health

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// endpoint is a TLS server: where to connect, and the name it must have a certificate for.
type endpoint struct {
	Dial string `json:"dial,omitempty"` // host:port
	Name string `json:"name,omitempty"`
}

// endpointOf reads an https address as a client does.
func endpointOf(address string) (e endpoint, path string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return e, "", fmt.Errorf("%q is not an https address", address)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return endpoint{Dial: net.JoinHostPort(u.Hostname(), port), Name: u.Hostname()}, u.EscapedPath(), nil
}

// local gives an address to listen on as one to dial.
func local(address string) string {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if name == "" || name == "0.0.0.0" || name == "::" {
		name = "127.0.0.1"
	}
	return net.JoinHostPort(name, port)
}

// peer is a TLS connection whose other side has shown its certificates; nothing about them is verified yet.
type peer struct {
	*tls.Conn
	name  string
	chain []*x509.Certificate
	stop  func() bool
}

// dialTLS connects and shakes hands. The caller closes the peer, and verifies it where that matters.
func dialTLS(ctx context.Context, h host.Host, e endpoint) (*peer, error) {
	raw, err := h.Dial(ctx, "tcp", e.Dial)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline) // a connection without deadlines ends with ctx all the same
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	// Verified by hand, against the pinned root and this host's clock: some checks must see a certificate that does not
	// verify.
	conn := tls.Client(raw, &tls.Config{ServerName: e.Name, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err := conn.HandshakeContext(ctx); err != nil {
		stop()
		raw.Close()
		return nil, fmt.Errorf("tls handshake with %s for %s: %w", e.Dial, e.Name, err)
	}
	return &peer{Conn: conn, name: e.Name, chain: conn.ConnectionState().PeerCertificates, stop: stop}, nil
}

// Close ends the connection.
func (p *peer) Close() error {
	p.stop()
	return p.Conn.Close()
}

func (p *peer) verify(roots *x509.CertPool, now time.Time) error {
	return verifyChain(p.chain, roots, p.name, now)
}

// verifyChain verifies a server's chain, leaf first. An empty name is not looked at.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, name string, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: name, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// answer is what an HTTP request brought back.
type answer struct {
	code   int
	header http.Header
	body   []byte // at most bodyLimit
	took   time.Duration
}

func (a answer) String() string { return fmt.Sprintf("status %d in %s", a.code, human(a.took)) }

// What of an answer is read, in bytes: whoever listens in a container may send for ever.
const (
	headerLimit = 64 << 10
	bodyLimit   = 256 << 10
)

// get asks for a path over an open connection, which can be used once. It follows no redirection.
func get(h host.Host, conn net.Conn, name, path string) (answer, error) {
	start := h.Now()
	if strings.Contains(name, ":") { // an IPv6 address
		name = "[" + name + "]"
	}
	req, err := http.NewRequest(http.MethodGet, "https://"+name+path, nil)
	if err != nil {
		return answer{}, err
	}
	req.Close = true
	req.Header.Set("User-Agent", "phoenix-health")
	if err := req.Write(conn); err != nil {
		return answer{}, fmt.Errorf("asking for %s: %w", path, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, headerLimit+bodyLimit)), req)
	if err != nil {
		return answer{}, fmt.Errorf("no answer for %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return answer{}, fmt.Errorf("answer for %s: %w", path, err)
	}
	return answer{resp.StatusCode, resp.Header, body, h.Now().Sub(start)}, nil
}

// ask connects, verifies against roots (nil: not at all) and asks for path.
func ask(ctx context.Context, h host.Host, e endpoint, roots *x509.CertPool, path string) (answer, error) {
	p, err := dialTLS(ctx, h, e)
	if err != nil {
		return answer{}, err
	}
	defer p.Close()
	if roots != nil {
		if err := p.verify(roots, h.Now()); err != nil {
			return answer{}, err
		}
	}
	return get(h, p, e.Name, path)
}

// anchor is the one root that is believed: the one with the pinned fingerprint. Its certificate is no secret and is
// found in File on the host that checks, or asked of the CA without verification: the fingerprint tells whether it is
// the right one.
type anchor struct {
	Fingerprint string   `json:"fingerprint,omitempty"`
	File        string   `json:"file,omitempty"` // PEM, the root among others
	CA          endpoint `json:"ca,omitzero"`
	// Also are roots that are believed besides, while one takes another's place.
	Also []string `json:"also,omitempty"`
}

var errNoPin = errors.New("the root's pinned fingerprint is not known")

func (a anchor) pool(ctx context.Context, h host.Host) (*x509.CertPool, error) {
	certs, root, err := a.find(ctx, h)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	for _, c := range certs {
		if slices.Contains(a.Also, fingerprint(c)) {
			pool.AddCert(c)
		}
	}
	return pool, nil
}

func (a anchor) root(ctx context.Context, h host.Host) (*x509.Certificate, error) {
	_, root, err := a.find(ctx, h)
	return root, err
}

// find gives the root, and all that were found where it is.
func (a anchor) find(ctx context.Context, h host.Host) (certs []*x509.Certificate, root *x509.Certificate, err error) {
	if a.Fingerprint == "" {
		return nil, nil, errNoPin
	}
	if a.File != "" {
		certs, err = readCerts(h, a.File)
	} else {
		certs, err = askRoots(ctx, h, a.CA)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the root cannot be had: %w", err)
	}
	for _, c := range certs {
		if fingerprint(c) == a.Fingerprint {
			return certs, c, nil
		}
	}
	return nil, nil, fmt.Errorf("no root with the pinned fingerprint %s among %d in %s%s", a.Fingerprint, len(certs),
		a.File, a.CA.Dial)
}

// askRoots gives the roots that a step-ca serves. They are not verified.
func askRoots(ctx context.Context, h host.Host, ca endpoint) ([]*x509.Certificate, error) {
	a, err := ask(ctx, h, ca, nil, "/roots.pem")
	if err != nil {
		return nil, err
	}
	if a.code != http.StatusOK {
		return nil, fmt.Errorf("%s/roots.pem: %s", ca.Dial, a)
	}
	return parseCerts(a.body)
}

func readCerts(h host.Host, path string) ([]*x509.Certificate, error) {
	b, err := h.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

// parseCerts reads every certificate of a PEM file, in order. None at all is an error.
func parseCerts(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate cannot be read: %w", err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return certs, nil
}

// fingerprint is the lower-case hex SHA-256 of a certificate's DER.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
