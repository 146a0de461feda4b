package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// rulesParams are the containers whose rules Proxmox's firewall is asked for.
type rulesParams struct {
	Guests  []guestRules `json:"guests"`
	Proxmox spec.Proxmox `json:"proxmox"`
	// Later: Proxmox looks at its files from time to time only, so that a change may not be in effect at once.
	Later bool `json:"later,omitempty"`
}

// guestRules is what is to hold for one container.
type guestRules struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Open    bool   `json:"open,omitempty"` // inbound is not restricted
}

const (
	laterWait    = 12 * time.Second // Proxmox looks at its rules every ten
	laterTick    = time.Second
	compileLimit = 8 * time.Second // most of a second when idle
)

// The sections of what pve-firewall compile prints.
const (
	iptables  = "iptables"
	ip6tables = "ip6tables"
	ebtables  = "ebtables"
)

// compiled is what pve-firewall compile prints: by section and chain.
type compiled map[string]map[string]compiledChain

type compiledChain struct {
	loaded bool // the kernel has it so
	rules  []string
}

var (
	compiledSection = regexp.MustCompile(`^(.+) cmdlist:$`)
	compiledHead    = regexp.MustCompile(`^(exists|create|update|delete|ignore) (\S+) \(\S*\)$`)
)

func parseCompiled(text string) compiled {
	out := compiled{}
	section, name := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if m := compiledSection.FindStringSubmatch(line); m != nil {
			section, name = m[1], ""
			out[section] = map[string]compiledChain{}
		} else if m := compiledHead.FindStringSubmatch(line); m != nil && section != "" {
			if name = m[2]; m[1] == "delete" || m[1] == "ignore" {
				name = ""
				continue
			}
			out[section][name] = compiledChain{loaded: m[1] == "exists"}
		} else if rule, ok := strings.CutPrefix(line, "\t"); ok && name != "" {
			x := out[section][name]
			x.rules = append(x.rules, strings.TrimPrefix(rule, "-A "+name+" "))
			out[section][name] = x
		}
	}
	return out
}

// runRules reads what Proxmox makes of the firewall files, and whether the kernel has it. An attempt to connect would
// not tell: the refusal of a closed port is lost between the two bridges of the containers. Lines that Proxmox does not
// understand it leaves out without an error, so that what is written is no proof.
func runRules(ctx context.Context, h host.Host, c Check, p rulesParams) Result {
	for end := time.Now().Add(laterWait); ; {
		r := askRules(ctx, h, c, p)
		if r.Status != Fail || !p.Later || r.Vain || time.Now().After(end) {
			return r
		}
		select {
		case <-ctx.Done():
			return r
		case <-time.After(laterTick):
		}
	}
}

func askRules(ctx context.Context, h host.Host, c Check, p rulesParams) Result {
	final := func(r Result) Result { r.Vain = true; return r } // time does not change it
	if raw, err := h.ReadFile(filepath.Join(p.Proxmox.Dir, "local", "host.fw")); err == nil {
		if spec.FilterOption(string(raw), "nftables") == "1" {
			return final(c.fail("proxmox-firewall (nftables) keeps the rules of this node: whether it keeps "+
				"containers to their own addresses is not known",
				"host.fw has nftables: 1", "set nftables: 0 in host.fw (node, Firewall, Options)"))
		}
		if spec.FilterOption(string(raw), "enable") == "0" {
			return final(c.fail("Proxmox's firewall is off on this node: no rule of a container has any effect",
				"host.fw has enable: 0",
				"set enable: 1 in host.fw (node, Firewall, Options)"))
		}
	}
	if raw, err := h.ReadFile(filepath.Join(p.Proxmox.Dir, "firewall", "cluster.fw")); err == nil &&
		spec.FilterOption(string(raw), ebtables) == "0" {
		return final(c.fail("Proxmox's firewall does not look at frames: a container can take another one's address",
			"cluster.fw has ebtables: 0",
			"set ebtables: 1 in cluster.fw (Datacenter, Firewall, Options)"))
	}
	status, err := h.Run(ctx, host.Command{Argv: []string{"pve-firewall", "status"}, Limit: compileLimit})
	if err != nil {
		return final(c.fail("it is not known whether Proxmox's firewall runs", err.Error(),
			"systemctl status pve-firewall"))
	}
	if !strings.Contains(string(status.Stdout), "/running") {
		return final(c.fail("pve-firewall does not run: no rule of a container has any effect", string(status.Stdout),
			"systemctl enable --now pve-firewall"))
	}
	res, err := h.Run(ctx, host.Command{Argv: []string{"pve-firewall", "compile"}, Limit: compileLimit})
	if err != nil {
		return c.fail("Proxmox's firewall does not say which rules it has", err.Error(), "pve-firewall compile")
	}
	all := parseCompiled(string(res.Stdout))
	var wrong []string
	for _, g := range p.Guests {
		if _, err := h.Lstat(filepath.Join(p.Proxmox.Dir, "lxc", g.ID+".conf")); errors.Is(err, fs.ErrNotExist) {
			continue // other checks say so
		}
		wrong = append(wrong, leftOut(string(res.Stderr), g.ID)...)
		wrong = append(wrong, all.missing(g)...)
	}
	if len(wrong) > 0 {
		return c.fail("Proxmox's firewall does not have the rules that the containers should have",
			strings.Join(wrong, "; "), "phoenix apply")
	}
	return c.pass("the kernel has the rules of every container, and keeps each to its own addresses",
		fmt.Sprintf("%d containers, by pve-firewall compile", len(p.Guests)))
}

// leftOut are the complaints about lines of a container's file: Proxmox goes on without them.
func leftOut(stderr, id string) (out []string) {
	for line := range strings.Lines(stderr) {
		if at := strings.Index(line, "/"+id+".fw (line "); at >= 0 {
			out = append(out, "left out: "+strings.TrimSpace(line[at+1:]))
		}
	}
	return out
}

// missing says what is not as it should be of one container.
func (x compiled) missing(g guestRules) (out []string) {
	port := "veth" + g.ID + "i0"
	for _, want := range []struct{ section, chain string }{{iptables, "-IN"}, {iptables, "-OUT"}, {ip6tables, "-OUT"},
		{ebtables, "-OUT"}, {ebtables, "-OUT-ARP"},
		{ebtables, "-OUT-PROTO"}} {
		switch have, there := x[want.section][port+want.chain]; {
		case !there:
			out = append(out, fmt.Sprintf("%s: no chain %s%s", want.section, port, want.chain))
		case !have.loaded:
			out = append(out, fmt.Sprintf("%s: the kernel does not have %s%s yet", want.section, port, want.chain))
		}
	}
	if len(out) > 0 {
		return out
	}
	if in := x[iptables][port+"-IN"].rules; !g.Open && (len(in) == 0 || in[len(in)-1] != "-j DROP") {
		out = append(out, port+"-IN does not end with DROP")
	}
	if !slices.ContainsFunc(x[ebtables][port+"-OUT"].rules,
		func(r string) bool { return strings.HasPrefix(r, "-s ! ") && strings.HasSuffix(r, " -j DROP") }) {
		out = append(out, port+" may use any hardware address")
	}
	for _, r := range x[ebtables][port+"-OUT-ARP"].rules {
		if r != "-j DROP" && !strings.HasSuffix(r, "--arp-ip-src "+g.Address+" -j RETURN") {
			out = append(out, port+" may answer for another address: "+r)
		}
	}
	for _, r := range x[ebtables][port+"-OUT-PROTO"].rules {
		if r != "-j DROP" && r != "-p ARP -j RETURN" {
			out = append(out, port+" may send other frames: "+r)
		}
	}
	if slices.ContainsFunc(x[ip6tables][port+"-OUT"].rules, func(r string) bool {
		return strings.Contains(r, "neighbor-advertisement") && !strings.HasSuffix(r, "-j DROP")
	}) && !strings.Contains(g.Address, ":") {
		out = append(out, port+" may answer for any IPv6 address")
	}
	return out
}

// Settled are the checks where the firewall was not changed of late: nothing is waited for.
func Settled(checks []Check) []Check {
	for i, c := range checks {
		p, err := decode[rulesParams](c.Params)
		if c.Kind != kindRules || err != nil || !p.Later {
			continue
		}
		p.Later = false
		if raw, err := json.Marshal(p); err == nil {
			checks[i].Params = raw
		}
	}
	return checks
}
