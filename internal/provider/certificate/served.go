package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Why nobody serves a certificate.
const (
	NotListening = "not listening" // nothing runs at that address
	Rejected     = "rejected"      // it refuses the name: it has no certificate for it (yet)
)

// rejections are alerts of RFC 8446, section 6.2, as crypto/tls writes them (their type is its own): nginx's
// ssl_reject_handshake and Traefik's sniStrict send the first.
var rejections = []string{"tls: unrecognized name", "tls: handshake failure"}

// served is the serial that s.Served answers with to the certificate's name, or why there is none.
func served(ctx context.Context, h host.Host, s spec.Certificate) (string, string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", s.Served)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "", NotListening
	}
	if err != nil {
		return "", err.Error()
	}
	defer conn.Close()
	return handshake(ctx, h, conn, s.CommonName)
}

func handshake(ctx context.Context, h host.Host, conn net.Conn, name string) (string, string) {
	// Only the serial is looked at here; whether the chain is good is seen on the file with that serial.
	c := tls.Client(conn, &tls.Config{ServerName: name, Time: h.Now, InsecureSkipVerify: true})
	err := c.HandshakeContext(ctx)
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" && slices.Contains(rejections, alert.Err.Error()) {
		return "", Rejected
	}
	if err != nil {
		return "", "TLS failed: " + err.Error()
	}
	return serial(c.ConnectionState().PeerCertificates[0]), ""
}

var servedLimit = 15 * time.Second // shorter in tests

const (
	servedEvery = 3 * time.Millisecond
	// servedSteady is how long no other certificate may be seen: nginx lets its old workers accept for 100 ms after a
	// reload (ngx_master_process_cycle), so that one good answer tells little.
	servedSteady = 150 * time.Millisecond
)

// awaitServed waits until the certificate on disk is served. Where nobody served one before, none is waited for: the
// server's TLS side comes after its first certificate.
func awaitServed(ctx context.Context, h host.Host, s spec.Certificate, before string) error {
	want, err := serialOnDisk(h, s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, servedLimit)
	defer cancel()
	var since time.Time
	for {
		got, why := served(ctx, h, s)
		if got == "" && before == "" {
			return nil
		}
		switch {
		case got != want:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= servedSteady:
			return nil
		}
		if err := pause(ctx, servedEvery); err != nil {
			return fmt.Errorf("%s serves %s for %s after the reload, on disk is serial %s: %w (look at the log of "+
				"what runs there)",
				s.Served, nonEmpty("serial "+got, got, why), s.CommonName, want, err)
		}
	}
}

func nonEmpty(text, value, instead string) string {
	if value == "" {
		return "nothing (" + instead + ")"
	}
	return text
}

func serialOnDisk(h host.Host, s spec.Certificate) (string, error) {
	text, err := h.ReadFile(s.CertPath)
	if err != nil {
		return "", err
	}
	leaf, _, err := parseChain(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.CertPath, err)
	}
	return serial(leaf), nil
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
