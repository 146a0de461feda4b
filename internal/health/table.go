package health

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// entry is one kind of check: its id for people, and the code that runs it.
type entry struct {
	kind, id string
	run      func(context.Context, host.Host, Check) Result
}

// The kinds of checks.
const (
	kindUnreadable    = "unreadable"
	kindWatch         = "watch"
	kindBridge        = "bridge"
	kindResolver      = "resolver"
	kindPin           = "pin"
	kindRunning       = "running"
	kindInside        = "inside"
	kindDaemon        = "daemon"
	kindSystemd       = "systemd"
	kindIDMap         = "id-map"
	kindOwnIDs        = "own-ids"
	kindRound         = "round"
	kindUnit          = "unit"
	kindNames         = "names"
	kindVolumeOwner   = "volume-owner"
	kindVolumeParents = "volume-parents"
	kindVolumeMount   = "volume-mount"
	kindVolumeAlone   = "volume-alone"
	kindKeyFile       = "key-file"
	kindKeyDirectory  = "key-directory"
	kindRoot          = "ca-root"
	kindRootFiles     = "ca-root-files"
	kindRootPermits   = "ca-root-permits"
	kindAuthority     = "ca-health"
	kindDirectory     = "ca-directory"
	kindAuthorityLife = "ca-lifetime"
	kindProvisioners  = "ca-provisioners"
	kindUnwanted      = "ca-unwanted"
	kindForeign       = "ca-foreign"
	kindClock         = "clock"
	kindTrust         = "trust"
	kindCertFiles     = "certificate-files"
	kindCertChain     = "certificate-chain"
	kindCertNames     = "certificate-names"
	kindCertLifetime  = "certificate-lifetime"
	kindCertServed    = "certificate-served"
	kindCertReload    = "certificate-reload"
	kindCertRoute     = "certificate-route"
	kindCommand       = "command"
	kindBackend       = "backend"
	kindRoute         = "route"
	kindSwitch        = "firewall-switch"
	kindRules         = "firewall-rules"
	kindIdentity      = "identity"
	kindHostFirewall  = "host-firewall"
	kindFlowOpen      = "flow-open"
	kindFlowClosed    = "flow-closed"
	kindHeadroom      = "headroom"
	kindListening     = "listening"
	kindLAN           = "lan-access"

	// of the machine itself, whatever is on it
	kindOtherRules = "other-rules"
	kindStorage    = "storage"
	kindPort53     = "port-53"
	kindAddress    = "address"
	kindKernel     = "kernel"
	kindHostClock  = "host-clock"
	kindMirror     = "mirror"
	kindUpstreams  = "upstreams"
)

// table has every kind of check, in the order in which a report shows them.
func table() []entry {
	return []entry{
		{kindUnreadable, "PHX-SPEC-001", with(runUnreadable)},
		{kindHeadroom, Headroom, with(runHeadroom)},
		{kindStorage, "PHX-HOST-002", with(runStorage)},
		{kindAddress, "PHX-HOST-003", with(runAddress)},
		{kindPort53, "PHX-HOST-004", with(runPort53)},
		{kindOtherRules, "PHX-HOST-005", with(runOtherRules)},
		{kindKernel, "PHX-HOST-006", with(runKernel)},
		{kindHostClock, "PHX-HOST-007", with(runHostClock)},
		{kindMirror, "PHX-HOST-008", with(runMirror)},
		{kindUpstreams, "PHX-HOST-009", with(runUpstreams)},
		{kindWatch, "PHX-WATCH-001", with(runWatch)},
		{kindBridge, "PHX-NET-001", with(runBridge)},
		{kindResolver, "PHX-DNS-002", with(runResolver)},
		{kindLAN, "PHX-ACC-001", with(runLAN)},
		{kindRunning, "PHX-CT-001", with(runRunning)},
		{kindInside, "PHX-CT-006", with(runInside)},
		{kindIDMap, "PHX-CT-004", with(runIDMap)},
		{kindOwnIDs, "PHX-IDS-001", with(runOwnIDs)},
		{kindSystemd, "PHX-CT-003", with(runSystemd)},
		{kindListening, "PHX-CT-008", with(runListening)},
		{kindUnit, "PHX-UNIT-001", with(runUnit)},
		{kindDaemon, "PHX-CT-002", with(runDaemon)},
		{kindRound, "PHX-CT-005", with(runRound)},
		{kindNames, "PHX-DNS-001", with(runNames)},
		{kindSwitch, "PHX-FW-003", with(runSwitch)},
		{kindRules, "PHX-FW-004", with(runRules)},
		{kindIdentity, "PHX-FW-005", with(runIdentity)},
		{kindHostFirewall, "PHX-FW-006", with(runHostFirewall)},
		{kindFlowOpen, "PHX-FW-001", with(runFlowOpen)},
		{kindFlowClosed, "PHX-FW-002", with(runFlowClosed)},
		{kindVolumeOwner, "PHX-VOL-001", with(runVolumeOwner)},
		{kindVolumeParents, "PHX-VOL-002", with(runVolumeParents)},
		{kindVolumeMount, "PHX-VOL-003", with(runVolumeMount)},
		{kindVolumeAlone, "PHX-VOL-004", with(runVolumeAlone)},
		{kindKeyFile, "PHX-KEY-001", with(runKeyFile)},
		{kindKeyDirectory, "PHX-KEY-001", with(runKeyDirectory)},
		{kindPin, "PHX-PIN-001", with(runPin)},
		{kindRootFiles, "PHX-CA-008", with(runRootFiles)},
		{kindRoot, "PHX-CA-003", with(runRoot)},
		{kindRootPermits, "PHX-CA-009", with(runRootPermits)},
		{kindAuthority, "PHX-CA-001", with(runAuthority)},
		{kindDirectory, "PHX-CA-002", with(runDirectory)},
		{kindAuthorityLife, "PHX-CA-004", with(runAuthorityLife)},
		{kindProvisioners, "PHX-CA-005", with(runProvisioners)},
		{kindUnwanted, IssuedUnwanted, with(runIssued)},
		{kindForeign, IssuedForeign, with(runIssued)},
		{kindClock, "PHX-CLOCK-001", with(runClock)},
		{kindTrust, "PHX-TRUST-001", with(runTrust)},
		{kindCertFiles, "PHX-CERT-001", with(runCertFiles)},
		{kindCertChain, "PHX-CERT-002", with(runCertChain)},
		{kindCertNames, "PHX-CERT-003", with(runCertNames)},
		{kindCertLifetime, "PHX-CERT-004", with(runCertLifetime)},
		{kindCertServed, "PHX-CERT-005", with(runCertServed)},
		{kindCertRoute, "PHX-CERT-006", with(runCertRoute)},
		{kindCertReload, "PHX-CERT-007", with(runCertReload)},
		{kindCommand, "PHX-CT-007", with(runCommand)},
		{kindBackend, "PHX-ROUTE-002", with(runBackend)},
		{kindRoute, "PHX-ROUTE-001", with(runRoute)},
	}
}

// IDs are those of all checks, each once.
func IDs() []string {
	var out []string
	for _, e := range table() {
		if !slices.Contains(out, e.id) {
			out = append(out, e.id)
		}
	}
	return out
}

// lookup gives a kind's entry and its place in the table; false where there is none.
func lookup(kind string) (entry, int, bool) {
	for i, e := range table() {
		if e.kind == kind {
			return e, i, true
		}
	}
	return entry{}, 0, false
}

// limit is how long one check may take; what does not answer by then does not answer. On two busy cores the slowest
// takes a tenth of it.
const limit = 4 * time.Second

// Limit is how long the check may take. Two kinds have a reason to wait for longer: a daemon that was only just started
// has its first round before it, and Proxmox looks at a change of its firewall's rules from time to time.
func (c Check) Limit() time.Duration {
	switch c.Kind {
	case kindDaemon:
		return max(limit, firstLimit+time.Second)
	case kindRules:
		if p, err := decode[rulesParams](c.Params); err == nil && p.Later {
			return laterWait + compileLimit
		}
		return 2 * compileLimit
	case kindUnwanted, kindForeign:
		return issuedLimit
	}
	return limit
}

// Waits tells whether most of the check's time is spent on waiting for what others say over the network. Such checks
// cost nothing while they wait.
func (c Check) Waits() bool {
	switch c.Kind {
	case kindResolver, kindNames, kindDaemon, kindRoot, kindAuthority, kindDirectory, kindAuthorityLife,
		kindProvisioners, kindClock, kindTrust,
		kindCertServed, kindCertRoute, kindCommand, kindBackend, kindRoute, kindFlowOpen, kindFlowClosed, kindLAN,
		kindUnwanted, kindForeign, kindMirror, kindHostClock:
		return true
	}
	return false
}

// Run runs one check on the host where it belongs. It changes nothing, may be called at once for many checks, and tries
// nothing twice but lost datagrams.
func Run(ctx context.Context, h host.Host, c Check) Result {
	e, _, ok := lookup(c.Kind)
	if !ok {
		return c.fail("this phoenix does not know the check "+c.Kind, "the container's phoenix is of another version",
			c.apply())
	}
	ctx, cancel := context.WithTimeout(ctx, c.Limit())
	defer cancel()
	r := e.run(ctx, h, c)
	// A connection's own deadline may come a moment before the context's end.
	if end, _ := ctx.Deadline(); r.Status != Pass && time.Until(end) < 50*time.Millisecond {
		r.Evidence = short(fmt.Sprintf("no answer within %s: %s", c.Limit(), r.Evidence))
	}
	return r
}

// RunJSON is Run with the check and its result as JSON, for the other side of a pipe.
func RunJSON(ctx context.Context, h host.Host, check json.RawMessage) (json.RawMessage, error) {
	var c Check
	if err := json.Unmarshal(check, &c); err != nil {
		return nil, fmt.Errorf("the check cannot be read: %w", err)
	}
	return json.Marshal(Run(ctx, h, c))
}

// with decodes a check's parameters for its code.
func with[P any](run func(context.Context, host.Host, Check, P) Result) func(context.Context, host.Host, Check) Result {
	return func(ctx context.Context, h host.Host, c Check) Result {
		p, err := decode[P](c.Params)
		if err != nil {
			return c.fail("the check's parameters cannot be read", err.Error(), c.apply())
		}
		return run(ctx, h, c, p)
	}
}

// decode is strict, so that two versions of phoenix that differ do not check half of what was meant.
func decode[S any](raw json.RawMessage) (S, error) {
	var s S
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, fmt.Errorf("not readable: %w", err)
	}
	return s, nil
}

// unreadable says why an object's spec could not be read.
type unreadable struct {
	Problem string `json:"problem"`
}

func runUnreadable(_ context.Context, _ host.Host, c Check, p unreadable) Result {
	return c.fail("the object's spec cannot be read", p.Problem, validateFix)
}
