package traefik

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Why a host has no good certificate.
const (
	notListening = "traefik does not listen"
	silent       = "traefik does not answer" // it hangs: it is not asked for each name
	notIssued    = "not issued"
	expired      = "expired"
	overdue      = "renewal is overdue"
	foreign      = "not under the pinned root"
	exposed      = "to be replaced"
	// it would be ordered anew at the next start, of a CA that may be away then
	unsaved = "not in traefik's storage"
)

// ownName is in the certificate that Traefik makes for itself (DefaultDomain in its pkg/tls/generate). It serves that
// for a moment after its start, until it has read that it must not.
const ownName = "TRAEFIK DEFAULT CERT"

// lookLimit is how long an answer may take that comes from this very host. It is looked under a lock, too.
const lookLimit = 1500 * time.Millisecond

// Certificate is what Traefik serves for one host.
type Certificate struct {
	Host      string    `json:"host"`
	Problem   string    `json:"problem,omitempty"` // begins with one of the constants, or is what went wrong
	DNSNames  []string  `json:"dns_names,omitempty"`
	Serial    string    `json:"serial,omitempty"` // lower-case hex
	Issuer    string    `json:"issuer,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	OverdueAt time.Time `json:"overdue_at,omitzero"` // when Traefik should long have renewed it
}

// Route is one router with its backend as Traefik has it loaded.
type Route struct {
	Name string `json:"name"`
	Have string `json:"have"` // rule, backend and what is wrong with them
	Want string `json:"want"`
}

func observeServed(ctx context.Context, h host.Host, s spec.Traefik) (*Status, error) {
	roots, err := readRoots(h, s)
	if err != nil {
		return nil, err
	}
	st := &Status{Trust: staleTrust(ctx, h, s), Covered: covered(h, s)}
	hung := false
	for _, name := range hosts(s) {
		c := Certificate{Host: name, Problem: silent}
		if !hung {
			began := time.Now()
			c = look(ctx, h, s, roots, servedAt, name)
			hung = c.Problem != "" && time.Since(began) >= lookLimit
		}
		st.Certificates = append(st.Certificates, c)
	}
	if st.Routes = unknownRoutes(s, silent); !hung {
		st.Routes = loadedRoutes(ctx, h, s, localAddress)
	}
	return st, st.lookStored(ctx, h, s)
}

// lookStored tells certificates that Traefik has only in its memory.
func (st *Status) lookStored(ctx context.Context, h host.Host, s spec.Traefik) error {
	all, _, err := readStorage(ctx, h, s.Storage)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	st.Accounts = accounts(h, s, all)
	leaves := storedLeaves(all)
	for i, c := range st.Certificates {
		// Which one it serves may be ahead of the file or behind it.
		kept := slices.ContainsFunc(leaves,
			func(leaf *x509.Certificate) bool { return leaf.VerifyHostname(c.Host) == nil })
		if c.Problem == "" && !kept {
			st.Certificates[i].Problem = unsaved
		}
	}
	return nil
}

func diffServed(have *Status) plan.Delta {
	d := lacks(have)
	if have.Covered {
		d.Compare("cover", "left running", "stopped")
	}
	return d
}

// lacks is what Traefik itself does not do as it should.
func lacks(have *Status) plan.Delta {
	var d plan.Delta
	for _, c := range have.Certificates {
		d.Compare("certificate of "+c.Host, c.Problem, "")
	}
	for _, r := range have.Routes {
		d.Compare("route "+r.Name, r.Have, r.Want)
	}
	d.Compare("trust", have.Trust, "")
	if !d.Empty() {
		d.Reason = "traefik does not serve all it should"
	}
	return d
}

// readRoots reads the roots that certificates may lead to and checks them against the pinned fingerprints.
func readRoots(h host.Host, s spec.Traefik) (*x509.CertPool, error) {
	return provider.Roots(h, s.ACME.RootFile, s.Fingerprint, s.Good)
}

// look is one TLS handshake with a host's name.
func look(ctx context.Context, h host.Host, s spec.Traefik, roots *x509.CertPool, at, name string) Certificate {
	c := Certificate{Host: name}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", at)
	if errors.Is(err, syscall.ECONNREFUSED) {
		c.Problem = notListening
		return c
	}
	if err != nil {
		c.Problem = err.Error()
		return c
	}
	defer conn.Close()
	// Verified below: what is wrong with a certificate that does not verify has to be known.
	t := tls.Client(conn, &tls.Config{ServerName: name, Time: h.Now, InsecureSkipVerify: true})
	if err := t.HandshakeContext(ctx); err != nil {
		c.Problem = handshakeProblem(err)
		return c
	}
	c.judge(t.ConnectionState().PeerCertificates, s, roots, h.Now())
	return c
}

// handshakeProblem knows the alert by which Traefik, told to be strict, refuses a name that it has no certificate for.
func handshakeProblem(err error) string {
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" && alert.Err.Error() == "tls: unrecognized name" {
		return notIssued
	}
	return "TLS failed: " + err.Error()
}

func (c *Certificate) judge(chain []*x509.Certificate, s spec.Traefik, roots *x509.CertPool, now time.Time) {
	leaf := chain[0]
	if leaf.Subject.CommonName == ownName {
		c.Problem = notIssued
		return
	}
	c.DNSNames, c.Serial, c.Issuer = leaf.DNSNames, leaf.SerialNumber.Text(16), leaf.Issuer.CommonName
	c.NotBefore, c.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	c.OverdueAt = overdueAt(leaf, s)
	ders := make([][]byte, len(chain))
	for i, x := range chain {
		ders[i] = x.Raw
	}
	// At a time inside the lifetime, so that an expired certificate is not also called foreign.
	at := slices.MinFunc([]time.Time{now, leaf.NotAfter}, time.Time.Compare)
	switch err := verify(ders, roots, c.Host, at); {
	case err != nil:
		c.Problem = foreign + ": " + err.Error()
	case replaced(leaf, chain[1:], s) != "":
		c.Problem = exposed + ": " + replaced(leaf, chain[1:], s)
	case now.After(leaf.NotAfter):
		c.Problem = expired + " at " + c.NotAfter.Format(time.RFC3339)
	case now.After(c.OverdueAt):
		c.Problem = overdue + " since " + c.OverdueAt.Format(time.RFC3339)
	}
}

// replaced says why a certificate that is good is to be replaced all the same.
func replaced(leaf *x509.Certificate, issuers []*x509.Certificate, s spec.Traefik) string {
	return cmp.Or(provider.Exposed(leaf, issuers, s.Exposed), provider.Exposed(leaf, nil, s.Renew))
}

// overdueAt is when Traefik has had time enough. It renews 6 hours before the end where leaves live for a day or more,
// 20 minutes where they live shorter (getCertificateRenewDurations in its pkg/provider/acme).
func overdueAt(leaf *x509.Certificate, s spec.Traefik) time.Time {
	period := 20 * time.Minute
	if time.Duration(s.Lifetime) >= 24*time.Hour {
		period = 6 * time.Hour
	}
	return leaf.NotAfter.Add(-min(period/2, leaf.NotAfter.Sub(leaf.NotBefore)/6)).UTC()
}

// rawData is the part of Traefik's /api/rawdata that is compared.
type rawData struct {
	Routers map[string]struct {
		Rule   string   `json:"rule"`
		Status string   `json:"status"`
		Error  []string `json:"error"`
	} `json:"routers"`
	Services map[string]struct {
		Error        []string `json:"error"`
		LoadBalancer struct {
			Servers []struct {
				URL string `json:"url"`
			} `json:"servers"`
		} `json:"loadBalancer"`
	} `json:"services"`
}

// loadedRoutes asks the running Traefik; without an answer every route is missing.
func loadedRoutes(ctx context.Context, h host.Host, s spec.Traefik, at string) []Route {
	data, err := ask(ctx, h, at)
	if err != nil {
		return unknownRoutes(s, err.Error())
	}
	out := make([]Route, 0, len(s.Routes))
	for _, r := range s.Routes {
		out = append(out, Route{Name: r.Name, Have: data.describe(r.Name + "@file"), Want: wantedRoute(r)})
	}
	return out
}

// unknownRoutes are all routes of a Traefik that cannot be asked.
func unknownRoutes(s spec.Traefik, why string) (out []Route) {
	for _, r := range s.Routes {
		out = append(out, Route{Name: r.Name, Have: "unknown: " + why, Want: wantedRoute(r)})
	}
	return out
}

func wantedRoute(r spec.TraefikRoute) string { return rule(r) + " -> " + r.URL }

func (d rawData) describe(name string) string {
	router, loaded := d.Routers[name]
	if !loaded {
		return "not loaded"
	}
	var urls []string
	for _, srv := range d.Services[name].LoadBalancer.Servers {
		urls = append(urls, srv.URL)
	}
	have := router.Rule + " -> " + strings.Join(urls, ", ")
	if trouble := slices.Concat(router.Error, d.Services[name].Error); router.Status != "enabled" || len(trouble) > 0 {
		have += " (" + router.Status + ": " + strings.Join(trouble, "; ") + ")"
	}
	return have
}

func ask(ctx context.Context, h host.Host, at string) (rawData, error) {
	var data rawData
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/api/rawdata", nil)
	if err != nil {
		return data, err
	}
	resp, err := (&http.Transport{DialContext: h.Dial, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return data, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return data, fmt.Errorf("traefik's API answers %s", resp.Status)
	}
	return data, json.NewDecoder(resp.Body).Decode(&data)
}
