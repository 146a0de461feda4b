package view

import (
	"strings"
	"time"
)

// Access is how clients of the LAN reach the gateway.
type Access struct {
	Mode      string   `json:"mode"`   // of the file: none, forward, route
	Bridge    string   `json:"bridge"` // that the containers are on
	Subnet    string   `json:"subnet"`
	Resolver  string   `json:"resolver,omitempty"` // address that answers names; empty: none does
	Uplink    string   `json:"uplink,omitempty"`   // interface of the default route
	Addresses []string `json:"addresses"`          // of this machine on the uplink
	LeadsOut  bool     `json:"leads_out"`          // the bridge itself is on the LAN
	Gateway   *Gateway `json:"gateway,omitempty"`
	Ways      []Way    `json:"ways"`
	Notes     []string `json:"notes,omitempty"`
}

// Gateway is the container that clients talk to.
type Gateway struct {
	Container string   `json:"container"`
	Address   string   `json:"address"`
	Names     []string `json:"names"` // that lead there
}

// Way is one way to the gateway.
type Way struct {
	Way     string `json:"way"`     // forward, route, direct
	Used    bool   `json:"used"`    // by the file
	Address string `json:"address"` // that clients connect to; empty: it is not known
	Steps   []Todo `json:"steps"`
}

// Todo is something to do, as text or as what to paste.
type Todo struct {
	Where string   `json:"where"`
	Do    []string `json:"do"`
}

// RootAccess is the root certificate and how it gets into systems and out again.
type RootAccess struct {
	Roots   []RootFile   `json:"roots"`
	Written string       `json:"written,omitempty"` // file that it was written to
	Systems []RootSystem `json:"systems"`
}

// RootFile is a root certificate.
type RootFile struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"not_after"`
	Permits     []string  `json:"permits"` // its name constraints; none: it may sign for everything
	PEM         string    `json:"pem"`
}

// RootSystem is a system that a root is imported into.
type RootSystem struct {
	System string   `json:"system"`
	In     []string `json:"in"`
	Out    []string `json:"out"`
}

func (p *people) Access(a Access) {
	if a.Gateway == nil {
		p.say("no container is a gateway or a proxy: clients have nothing to talk to\n")
		return
	}
	p.say("container %s is what clients talk to: %s on %s (%s)\n", a.Gateway.Container, a.Gateway.Address, a.Bridge,
		a.Subnet)
	switch {
	case a.LeadsOut:
		p.say("%s leads out of this machine: clients of the LAN are on the same network\n", a.Bridge)
	case a.Uplink == "":
		p.say("this machine has no default route: it is not known which address clients see\n")
	default:
		p.say("this machine is %s on %s\n", strings.Join(a.Addresses, ", "), a.Uplink)
	}
	p.say("access: %s\n", a.Mode)
	for _, n := range a.Notes {
		p.say("note: %s\n", n)
	}
	for _, w := range a.Ways {
		used := ""
		if w.Used {
			used = ", in use"
		}
		p.say("\n%s%s\n", p.paint(bold, w.Way), used)
		for _, s := range w.Steps {
			p.say("  %s\n", s.Where)
			for _, line := range s.Do {
				p.say("    %s\n", line)
			}
		}
	}
}

func (v *programs) Access(a Access) { v.write(a) }

func (p *people) RootAccess(r RootAccess) {
	for _, f := range r.Roots {
		permits := "anything: it has no name constraints"
		if len(f.Permits) > 0 {
			permits = strings.Join(f.Permits, ", ") + ", and nothing else"
		}
		p.say("%s, until %s\n  sha256 %s\n  may sign for %s\n", f.Name, f.NotAfter.Format(time.DateOnly),
			f.Fingerprint, permits)
	}
	if r.Written != "" {
		p.say("written to %s\n", r.Written)
	}
	for _, s := range r.Systems {
		p.say("\n%s\n", p.paint(bold, s.System))
		for _, line := range s.In {
			p.say("  in:  %s\n", line)
		}
		for _, line := range s.Out {
			p.say("  out: %s\n", line)
		}
	}
}

func (v *programs) RootAccess(r RootAccess) { v.write(r) }
