package health

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// caParams is a CA as one host sees it.
type caParams struct {
	CA          endpoint      `json:"ca"`
	Anchor      anchor        `json:"anchor"`
	Path        string        `json:"path,omitempty"`        // of the ACME directory
	Provisioner string        `json:"provisioner,omitempty"` // the only one
	LeafLife    spec.Duration `json:"leaf_life,omitempty"`   // longest
}

// runPin looks at the file that everything else is measured by.
func runPin(_ context.Context, h host.Host, c Check, p spec.Pin) Result {
	pins, err := readPin(h, p.Path)
	if err != nil {
		return c.fail("the root's fingerprint is not pinned", err.Error(),
			"phoenix create "+c.container()+"; if the CA existed before, restore "+p.Path+" from a backup")
	}
	m, err := h.Lstat(p.Path)
	if err != nil {
		return c.fail("the pin cannot be looked at", err.Error(), c.apply())
	}
	if m.UID != 0 || m.Mode.Perm()&0o022 != 0 || !m.Mode.IsRegular() {
		return c.fail("others than root can change the pin", p.Path+" is "+seen(m),
			"chown root:root "+p.Path+" && chmod 0644 "+p.Path+"; then compare it with: phoenix ca show")
	}
	return c.pass("the root's fingerprint is pinned", strings.Join(strings.Fields(pins.String()), " "))
}

// runRoot compares the roots that the CA hands out with the pinned one. Nothing is believed for it: a fingerprint
// cannot be faked.
func runRoot(ctx context.Context, h host.Host, c Check, p caParams) Result {
	if p.Anchor.Fingerprint == "" {
		return c.fail("the root cannot be compared", errNoPin.Error(), c.apply())
	}
	roots, err := askRoots(ctx, h, p.CA)
	if err != nil {
		return c.unasked("the root was not compared: the CA does not answer", err.Error())
	}
	var prints []string
	for _, r := range roots {
		prints = append(prints, fingerprint(r))
	}
	if !slices.Contains(prints, p.Anchor.Fingerprint) {
		return c.fail("the CA's root is not the pinned one",
			"served "+strings.Join(prints, " ")+", pinned "+p.Anchor.Fingerprint, c.rootFix())
	}
	return c.pass("the CA's root is the pinned one", p.Anchor.Fingerprint)
}

// runAuthority asks the CA how it is, over TLS that is verified to the pinned root.
func runAuthority(ctx context.Context, h host.Host, c Check, p caParams) Result {
	roots, err := p.Anchor.pool(ctx, h)
	if err != nil {
		return c.fail("the CA does not answer at "+p.CA.Dial, err.Error(), c.apply())
	}
	a, err := ask(ctx, h, p.CA, roots, "/health")
	if err != nil {
		return c.fail("the CA does not answer over verified TLS as "+p.CA.Name, err.Error(), c.apply())
	}
	var said struct {
		Status string `json:"status"`
	}
	err = json.Unmarshal(a.body, &said)
	if err != nil || a.code != http.StatusOK || said.Status != "ok" {
		return c.fail("the CA is not well", fmt.Sprintf("%s: %s", a, a.body), c.apply())
	}
	return c.pass("the CA answers over verified TLS as "+p.CA.Name, a.String())
}

// runDirectory asks for the ACME directory (RFC 8555, section 7.1.1).
func runDirectory(ctx context.Context, h host.Host, c Check, p caParams) Result {
	roots, err := p.Anchor.pool(ctx, h)
	if err != nil {
		return c.fail("the ACME directory does not answer", err.Error(), c.apply())
	}
	a, err := ask(ctx, h, p.CA, roots, p.Path)
	if err != nil {
		return c.fail("the ACME directory does not answer", err.Error(), c.apply())
	}
	var directory map[string]any
	err = json.Unmarshal(a.body, &directory)
	for _, field := range []string{"newNonce", "newAccount", "newOrder"} {
		if _, ok := directory[field].(string); err != nil || a.code != http.StatusOK || !ok {
			return c.fail("there is no ACME directory at "+p.Path, a.String()+", no "+field, c.apply())
		}
	}
	return c.pass("the ACME directory answers", a.String())
}

// Time that a person has to rotate a CA's certificate. Short-lived ones, for tests, have a tenth of their life.
const rotateNotice = 30 * 24 * time.Hour

// runAuthorityLife looks at the lifetimes of the root and of the intermediates that the CA presents. An intermediate
// must outlive what it signs, so that the longest leaf counts too.
func runAuthorityLife(ctx context.Context, h host.Host, c Check, p caParams) Result {
	root, err := p.Anchor.root(ctx, h)
	if err != nil {
		return c.fail("the CA's own lifetimes are not known", err.Error(), c.apply())
	}
	conn, err := dialTLS(ctx, h, p.CA)
	if err != nil {
		return c.fail("the CA's own lifetimes are not known", err.Error(), c.apply())
	}
	defer conn.Close()
	if len(conn.chain) < 2 {
		return c.fail("the CA does not present its intermediate", fmt.Sprintf("%d certificate", len(conn.chain)),
			c.apply())
	}
	var lives []string
	for _, cert := range append(slices.Clone(conn.chain[1:]), root) {
		left := cert.NotAfter.Sub(h.Now())
		life := fmt.Sprintf("%q %s", cert.Subject.CommonName, expiry(left))
		if left < notice(cert)+time.Duration(p.LeafLife) {
			return c.fail("a certificate of the CA itself runs out", life,
				map[bool]string{true: "phoenix ca rotate --new-root --yes",
					false: "phoenix ca rotate --yes"}[cert == root])
		}
		lives = append(lives, life)
	}
	return c.pass("the CA's own certificates last", strings.Join(lives, ", "))
}

func notice(c *x509.Certificate) time.Duration {
	return min(rotateNotice, c.NotAfter.Sub(c.NotBefore)/10)
}

func expiry(left time.Duration) string {
	if left < 0 {
		return "expired " + human(left) + " ago"
	}
	return "expires in " + human(left)
}

// runProvisioners makes sure that ACME is the only way to a certificate.
func runProvisioners(ctx context.Context, h host.Host, c Check, p caParams) Result {
	roots, err := p.Anchor.pool(ctx, h)
	if err != nil {
		return c.fail("the provisioners are not known", err.Error(), c.apply())
	}
	a, err := ask(ctx, h, p.CA, roots, "/provisioners?limit=100")
	if err != nil {
		return c.fail("the provisioners are not known", err.Error(), c.apply())
	}
	var list struct {
		Provisioners []struct{ Type, Name string }
	}
	if err := json.Unmarshal(a.body, &list); err != nil || a.code != http.StatusOK {
		return c.fail("the provisioners are not known", a.String(), c.apply())
	}
	var have []string
	for _, v := range list.Provisioners {
		have = append(have, v.Type+" "+v.Name)
	}
	said := strings.Join(have, ", ")
	if said != "ACME "+p.Provisioner {
		return c.fail("ACME is not the only way to a certificate",
			fmt.Sprintf("provisioners: %s; wanted: ACME %s", said, p.Provisioner), c.apply())
	}
	return c.pass("ACME is the only provisioner", said)
}

// clockTolerance is how far two clocks may be apart before young certificates are refused.
const clockTolerance = 60 * time.Second

// runClock compares this host's clock with the CA's. Nothing is verified for it, since a wrong clock is why that would
// fail.
func runClock(ctx context.Context, h host.Host, c Check, p caParams) Result {
	before := h.Now()
	a, err := ask(ctx, h, p.CA, nil, "/health")
	if err != nil {
		return c.unasked("the clock was not compared: the CA does not answer", err.Error())
	}
	theirs, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return c.unasked("the clock was not compared: the CA does not say its time", err.Error())
	}
	// The CA's second began at some time between the request and the answer, or up to a second before.
	ours := before.Add(h.Now().Sub(before) / 2)
	apart := ours.Sub(theirs)
	if apart > clockTolerance || apart < -clockTolerance {
		word := "ahead of"
		if apart < 0 {
			word = "behind"
		}
		return c.fail("the clock is wrong",
			fmt.Sprintf("%s %s the CA's (%s)", human(apart), word, theirs.Format(time.RFC3339)), clockFix)
	}
	return c.pass("the clock agrees with the CA's", "apart by less than "+human(max(apart, -apart)+time.Second))
}

// systemBundle is where Debian's update-ca-certificates collects what a host trusts.
const systemBundle = "/etc/ssl/certs/ca-certificates.crt"

// runTrust asks the CA as any program on this host would: with the system's store and nothing else.
func runTrust(ctx context.Context, h host.Host, c Check, p caParams) Result {
	certs, err := readCerts(h, systemBundle)
	if err != nil {
		return c.fail("the system's store cannot be read", err.Error(), c.apply())
	}
	pool, found := x509.NewCertPool(), false
	for _, cert := range certs {
		pool.AddCert(cert)
		found = found || fingerprint(cert) == p.Anchor.Fingerprint
	}
	if !found {
		return c.fail("the pinned root is not in the system's store",
			fmt.Sprintf("%d certificates in %s, none with %s", len(certs), systemBundle, p.Anchor.Fingerprint),
			c.apply())
	}
	a, err := ask(ctx, h, p.CA, pool, "/health")
	if err != nil {
		return c.fail("programs on this host do not trust the CA", err.Error(), c.apply())
	}
	return c.pass("the system trusts the CA", fmt.Sprintf("verified with the system's store, %s", a))
}
