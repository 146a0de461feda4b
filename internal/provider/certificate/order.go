package certificate

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// order is one issuance at the CA (RFC 8555, section 7.4).
type order struct {
	host    host.Host
	spec    spec.Certificate
	answers answerer
	roots   *x509.CertPool
	client  *acme.Client
	http    *http.Transport
	account acme.Account
}

const (
	// step-ca validates and signs while it is asked, so that polling is for other CAs; acmez would wait 250 ms.
	pollInterval = 20 * time.Millisecond
	pollTimeout  = time.Minute
)

func newOrder(h host.Host, s spec.Certificate, answers answerer) (*order, error) {
	roots, err := readRoots(h, s)
	if err != nil {
		return nil, rootError(s, err)
	}
	t := &http.Transport{
		DialContext:           h.Dial,
		TLSClientConfig:       &tls.Config{RootCAs: roots, Time: h.Now, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute, // the CA dials back before it answers
	}
	c := &acme.Client{
		Directory: s.ACME.Directory, HTTPClient: &http.Client{Transport: t}, UserAgent: "phoenix",
		PollInterval: pollInterval, PollTimeout: pollTimeout,
	}
	return &order{host: h, spec: s, answers: answers, roots: roots, client: c, http: t}, nil
}

// within is run, for as long as an order may take. Others may change this host meanwhile: all that is written is the
// order's own.
func (o *order) within(ctx context.Context, key crypto.Signer) (chain []byte, err error) {
	limit := cmp.Or(time.Duration(o.spec.OrderTimeout), spec.OrderTimeout)
	over := fmt.Errorf("the CA has not issued it within %s", limit)
	err = provider.Wait(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, over)
		defer cancel()
		chain, err = o.run(ctx, key)
		if err != nil && context.Cause(ctx) == over {
			names := strings.Join(o.spec.DNSNames, ", ")
			return provider.WithHint(fmt.Errorf("%w: %w", over, err), "the CA has to reach this container as "+names+
				", at port "+challengePorts[o.spec.Challenge]+"; for a CA that is slow, step_ca.order_timeout")
		}
		return err
	})
	return chain, err
}

// challengePorts are where the CA looks for answers (RFC 8555, section 8.3; RFC 8737).
var challengePorts = map[string]string{spec.HTTP01: "80", spec.TLSALPN01: "443"}

// run gives the chain, leaf first, PEM. It is verified: for this key, with these names, under the pinned root.
func (o *order) run(ctx context.Context, key crypto.Signer) ([]byte, error) {
	defer o.http.CloseIdleConnections()
	if err := o.loadOrRegister(ctx); err != nil {
		return nil, classify(o.spec, atAccount, err)
	}
	placed, err := o.place(ctx)
	if err != nil {
		return nil, classify(o.spec, atOrder, err)
	}
	for _, url := range placed.Authorizations {
		if err := o.authorize(ctx, url); err != nil {
			return nil, classify(o.spec, atChallenge, err)
		}
	}
	chain, err := o.finalize(ctx, placed, key)
	if err != nil {
		return nil, classify(o.spec, atFinalize, err)
	}
	return chain, o.accept(chain, key)
}

// place makes the order, with a new account where the CA does not know the old one: it may have been made anew.
func (o *order) place(ctx context.Context) (acme.Order, error) {
	ask := acme.Order{}
	for _, n := range o.spec.DNSNames {
		ask.Identifiers = append(ask.Identifiers, acme.Identifier{Type: "dns", Value: n})
	}
	if o.spec.Lifetime > 0 {
		end := o.host.Now().Add(time.Duration(o.spec.Lifetime)).UTC()
		ask.NotAfter = &end
	}
	placed, err := o.client.NewOrder(ctx, o.account, ask)
	if !accountLost(err) {
		return placed, err
	}
	if err := o.replaceAccount(ctx, !unknownAccount(err)); err != nil {
		return placed, err
	}
	return o.client.NewOrder(ctx, o.account, ask)
}

// unknownAccount is whether the CA has never heard of the account: its database may have been made again.
func unknownAccount(err error) bool {
	var p acme.Problem
	return errors.As(err, &p) && p.Type == acme.ProblemTypeAccountDoesNotExist
}

func accountLost(err error) bool {
	var p acme.Problem
	if !errors.As(err, &p) {
		return false
	}
	inactive := p.Type == acme.ProblemTypeUnauthorized && strings.Contains(p.Detail, "account is not active")
	return p.Type == acme.ProblemTypeAccountDoesNotExist || inactive
}

func (o *order) authorize(ctx context.Context, url string) error {
	authz, err := o.client.GetAuthorization(ctx, o.account, url)
	if err != nil || authz.Status == acme.StatusValid {
		return err
	}
	i := slices.IndexFunc(authz.Challenges, func(c acme.Challenge) bool { return c.Type == o.spec.Challenge })
	if i < 0 {
		return fmt.Errorf("the CA offers no %s challenge for %s", o.spec.Challenge, authz.Identifier.Value)
	}
	c := authz.Challenges[i]
	c.Identifier = authz.Identifier
	remove, err := o.answers.present(ctx, o.host, c)
	if err != nil {
		return err
	}
	return errors.Join(o.prove(ctx, authz, c), remove())
}

// prove asks the CA to look at the answer.
func (o *order) prove(ctx context.Context, authz acme.Authorization, c acme.Challenge) error {
	c, err := o.client.InitiateChallenge(ctx, o.account, c)
	switch {
	case err != nil:
		return err
	case c.Status == acme.StatusValid:
		return nil
	case c.Error != nil: // step-ca tells at once why, and leaves it pending
		return &challengeError{name: authz.Identifier.Value, kind: c.Type, problem: *c.Error}
	}
	_, err = o.client.PollAuthorization(ctx, o.account, authz)
	return err
}

func (o *order) finalize(ctx context.Context, placed acme.Order, key crypto.Signer) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: o.spec.CommonName}, DNSNames: o.spec.DNSNames,
	}, key)
	if err != nil {
		return nil, err
	}
	if placed, err = o.client.FinalizeOrder(ctx, o.account, placed, csr); err != nil {
		return nil, err
	}
	chains, err := o.client.GetCertificateChain(ctx, o.account, placed.Certificate)
	if err != nil {
		return nil, err
	}
	return chains[0].ChainPEM, nil
}

// accept looks at what the CA gave before anything is put in place.
func (o *order) accept(chain []byte, key crypto.Signer) error {
	leaf, issuers, err := parseChain(chain)
	if err != nil {
		return fmt.Errorf("the CA's answer cannot be read: %w", err)
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(leaf.PublicKey) {
		return errors.New("the CA signed another key than the one it was given")
	}
	if !slices.Equal(sorted(leaf.DNSNames), sorted(o.spec.DNSNames)) {
		return fmt.Errorf("the CA signed the names %s, asked for were %s", strings.Join(sorted(leaf.DNSNames), ", "),
			strings.Join(sorted(o.spec.DNSNames), ", "))
	}
	now := o.host.Now()
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("the certificate is valid from %s only, here it is %s: the clocks of the CA and of this "+
			"container differ",
			leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if err := verify(leaf, issuers, o.roots, now); err != nil {
		return fmt.Errorf("the new certificate does not verify: %w", err)
	}
	if why := provider.Exposed(leaf, issuers, o.spec.Exposed); why != "" {
		return fmt.Errorf("the new certificate is no better than the one it is for, the CA is to be rotated first: %s",
			why)
	}
	return nil
}
