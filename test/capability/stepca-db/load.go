package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// issued is a certificate the CA acknowledged: after any accident the
// account must still exist and the certificate must still be there.
type issued struct {
	account acme.Account
	url     string
}

// load is a set of ACME clients that order without a pause.
type load struct {
	ca     *authority
	tokens sync.Map // path of the challenge -> key authorization
	server *http.Server
	failed atomic.Int64

	mu   sync.Mutex
	done []issued
}

func newLoad(ca *authority) (*load, error) {
	l := &load{ca: ca}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ca.httpPort))
	if err != nil {
		return nil, err
	}
	l.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v, ok := l.tokens.Load(strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")); ok {
			_, _ = w.Write([]byte(v.(string)))
			return
		}
		http.NotFound(w, r)
	})}
	go func() { _ = l.server.Serve(listener) }()
	return l, nil
}

func (l *load) acme() *acme.Client {
	return &acme.Client{Directory: l.ca.url + "/acme/acme/directory", HTTPClient: l.ca.client(),
		PollInterval: 5 * time.Millisecond, PollTimeout: 5 * time.Second}
}

// run keeps n clients ordering until ctx ends. A client that fails starts
// over with a new account, as a client does that lost its own.
func (l *load) run(ctx context.Context, n int) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := l.session(ctx); err != nil && ctx.Err() == nil {
					l.failed.Add(1)
					pause(ctx, 50*time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *load) session(ctx context.Context) error {
	client := l.acme()
	account, err := newAccount(ctx, client)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := l.order(ctx, client, account); err != nil {
			return err
		}
	}
	return nil
}

func newAccount(ctx context.Context, client *acme.Client) (acme.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acme.Account{}, err
	}
	return client.NewAccount(ctx, acme.Account{PrivateKey: key, TermsOfServiceAgreed: true})
}

// order takes one certificate for 127.0.0.1 and remembers it as acknowledged.
func (l *load) order(ctx context.Context, client *acme.Client, account acme.Account) error {
	order, err := client.NewOrder(ctx, account, acme.Order{
		Identifiers: []acme.Identifier{{Type: "ip", Value: "127.0.0.1"}}})
	if err != nil {
		return err
	}
	authz, err := client.GetAuthorization(ctx, account, order.Authorizations[0])
	if err != nil {
		return err
	}
	challenge := authz.Challenges[0]
	l.tokens.Store(challenge.Token, challenge.KeyAuthorization)
	defer l.tokens.Delete(challenge.Token)
	if _, err = client.InitiateChallenge(ctx, account, challenge); err != nil {
		return err
	}
	if _, err = client.PollAuthorization(ctx, account, authz); err != nil {
		return err
	}
	csr, err := request()
	if err != nil {
		return err
	}
	if order, err = client.FinalizeOrder(ctx, account, order, csr); err != nil {
		return err
	}
	if _, err = client.GetCertificateChain(ctx, account, order.Certificate); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = append(l.done, issued{account, order.Certificate})
	return nil
}

func request() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, key)
}

// acknowledged is a copy of what has been issued so far.
func (l *load) acknowledged() []issued {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]issued(nil), l.done...)
}

// lost counts the acknowledged certificates that cannot be fetched any more
// with the account they were issued to.
func lost(ctx context.Context, client *acme.Client, list []issued) int {
	n := 0
	for _, c := range list {
		if _, err := client.GetCertificateChain(ctx, c.account, c.url); err != nil {
			n++
		}
	}
	return n
}
