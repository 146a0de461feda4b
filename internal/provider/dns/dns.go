// Package dns keeps a dnsmasq on a bridge's address that answers the containers: its own zones from the configuration,
// all else from explicit upstreams. It reads neither the hypervisor's resolv.conf nor its hosts file and listens on no
// other address.
package dns

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Driver keeps dnsmasq processes. It implements provider.Driver, provider.Deleter and provider.Stopper.
type Driver struct{}

// New gives the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// Status is what was seen of a resolver.
type Status struct {
	PID int `json:"pid"` // 0: not running
	// configuration file the process was started with; its name carries the digest of its content
	Running string `json:"running"`
	Intact  bool   `json:"intact"` // that file still has that content
}

var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	dnsName   = regexp.MustCompile(
		`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?$`)
)

// Decode implements provider.Driver. What goes into the configuration file is checked here, so that no value can add a
// line.
func (Driver) Decode(raw json.RawMessage) (spec.DNS, diag.List) {
	s, diags := provider.Decode[spec.DNS](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !plainName.MatchString(s.Name) {
		diags.Errorf("%q is no name for a resolver", s.Name)
	}
	if !filepath.IsAbs(s.Dir) || strings.ContainsAny(s.Dir, "\n\"") {
		diags.Errorf("folder %q is not an absolute path", s.Dir)
	}
	if len(s.Listen) == 0 {
		diags.Errorf("resolver %s has no address to listen on", s.Name)
	}
	checkAddresses(&diags, "listen address", s.Listen)
	checkAddresses(&diags, "upstream", s.Upstreams)
	for _, u := range s.Upstreams {
		if slices.Contains(s.Listen, u) {
			diags.Errorf("upstream %s is the resolver itself: questions would go round for ever", u)
		}
	}
	for _, z := range s.Zones {
		checkZone(&diags, z)
	}
	return s, diags
}

func checkAddresses(diags *diag.List, what string, list []string) {
	for _, a := range list {
		if _, err := netip.ParseAddr(a); err != nil {
			diags.Errorf("%s %q is not an address", what, a)
		}
	}
}

func checkZone(diags *diag.List, z spec.Zone) {
	if !dnsName.MatchString(z.Name) {
		diags.Errorf("zone %q is not a DNS name", z.Name)
	}
	for _, r := range z.Records {
		if !dnsName.MatchString(r.Name) {
			diags.Errorf("record %q of zone %s is not a DNS name", r.Name, z.Name)
		}
		checkAddresses(diags, "address of "+r.Name, r.Addresses)
	}
}

// Diff implements provider.Driver.
func (Driver) Diff(want spec.DNS, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the resolver does not run"}
	}
	var d plan.Delta
	d.Compare("configuration", filepath.Base(have.Running), filepath.Base(confPath(want)))
	if !have.Intact {
		d.Compare("intact", "false", "true")
	}
	return d
}

// confPath carries the digest of the content, so that a process's command line tells what it was started with.
func confPath(s spec.DNS) string {
	sum := sha256.Sum256([]byte(render(s)))
	return filepath.Join(s.Dir, s.Name+"-"+hex.EncodeToString(sum[:8])+".conf")
}

func pidPath(s spec.DNS) string { return filepath.Join(s.Dir, s.Name+".pid") }

// render writes dnsmasq's configuration (dnsmasq(8)). bind-dynamic keeps two resolvers on two bridges apart and waits
// for an address that is not there yet.
func render(s spec.DNS) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# phoenix: dns/%s\n", s.Name)
	for _, line := range []string{"bind-dynamic", "no-resolv", "no-hosts", "no-poll", "domain-needed", "bogus-priv",
		"dns-loop-detect",
		"cache-size=1000", "user=nobody", "pid-file=" + pidPath(s)} {
		fmt.Fprintln(&b, line)
	}
	for _, a := range s.Listen {
		fmt.Fprintln(&b, "listen-address="+a)
	}
	for _, u := range s.Upstreams {
		fmt.Fprintln(&b, "server="+u)
	}
	for _, z := range s.Zones {
		fmt.Fprintf(&b, "local=/%s/\n", z.Name)
		for _, r := range z.Records {
			renderRecord(&b, r)
		}
	}
	return b.String()
}

func renderRecord(b *strings.Builder, r spec.Record) {
	suffix, wild := strings.CutPrefix(r.Name, "*.")
	for _, a := range r.Addresses {
		if wild {
			fmt.Fprintf(b, "address=/%s/%s\n", suffix, a)
		} else {
			fmt.Fprintf(b, "host-record=%s,%s\n", r.Name, a)
		}
	}
}
