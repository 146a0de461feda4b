// Command acmeclient asks a CA for one certificate as a program of somebody else's would: with an account of its own,
// and an http-01 answer at port 80 of whatever it runs on. It prints the certificate's serial. For tests.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

func main() {
	directory := flag.String("directory", "", "URL")
	listen := flag.String("listen", ":80", "where the CA looks for the answer")
	flag.Parse()
	if err := order(*directory, *listen, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// solver answers challenges.
type solver struct {
	listen string
	server *http.Server
}

func (s *solver) Present(_ context.Context, c acme.Challenge) error {
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == c.HTTP01ResourcePath() {
			_, _ = io.WriteString(w, c.KeyAuthorization)
		}
	})}
	go func() { _ = s.server.Serve(l) }()
	return nil
}

func (s *solver) CleanUp(context.Context, acme.Challenge) error { return s.server.Close() }

func order(directory, listen string, names []string) error {
	accountKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := acmez.Client{
		// Who asks for what is not theirs does not care whom they ask.
		Client: &acme.Client{Directory: directory, PollInterval: 50 * time.Millisecond,
			HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}},
		ChallengeSolvers: map[string]acmez.Solver{acme.ChallengeTypeHTTP01: &solver{listen: listen}},
	}
	account, err := client.NewAccount(ctx, acme.Account{PrivateKey: accountKey, TermsOfServiceAgreed: true})
	if err != nil {
		return err
	}
	got, err := client.ObtainCertificateForSANs(ctx, account, key, names)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(got[0].ChainPEM)
	if block == nil {
		return errors.New("no certificate came")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err == nil {
		fmt.Println(leaf.SerialNumber.Text(16))
	}
	return err
}
