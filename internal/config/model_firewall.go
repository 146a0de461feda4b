package config

import (
	"fmt"
	"strings"
	"unicode"
)

// Firewall is what the users say about who may reach a container, besides what is derived.
type Firewall struct {
	At
	Enabled bool            `json:"enabled"`
	Rules   []*FirewallRule `json:"rules"`
}

// FirewallRule is one rule, with the keys that Proxmox gives it.
type FirewallRule struct {
	At
	Type     string `json:"type" need:"true" enum:"in,out,group"`
	Action   string `json:"action" need:"true"` // of a group: its name
	Enable   Switch `json:"enable"`
	Macro    string `json:"macro"`
	Proto    Number `json:"proto"`
	Port     Number `json:"port"`  // the one that is connected to
	DPort    Number `json:"dport"` // the same
	SPort    Number `json:"sport"`
	Source   string `json:"source"`
	Dest     string `json:"dest"`
	Iface    string `json:"iface"`
	Log      string `json:"log" enum:"nolog,emerg,alert,crit,err,warning,notice,info,debug"`
	ICMPType string `json:"icmp_type"`
	ICMP     string `json:"icmp-type"` // the same, as Proxmox writes it
	Comment  string `json:"comment"`
	Pos      Kept   `json:"pos" kept:"the order in the file counts"`
}

// Switch is on or off. In the file it is true or false, or 1 or 0. Where it is not there it is on.
type Switch struct{ Off bool }

// Number is a number, or a word or a list that takes the place of one. In the file it is a string or a number.
type Number string

func (s *Switch) fromNode(n *node) string {
	switch {
	case n.kind == aBool && n.text == "true", n.text == "1" && (n.kind == aNumber || n.kind == aString):
		return ""
	case n.kind == aBool, n.text == "0" && (n.kind == aNumber || n.kind == aString):
		s.Off = true
		return ""
	}
	return "wants true or false, or 1 or 0"
}

func (x *Number) fromNode(n *node) string {
	if n.kind != aString && n.kind != aNumber {
		return fmt.Sprintf("wants a string, got %s", n.kind)
	}
	if strings.ContainsFunc(n.text, unicode.IsControl) {
		return "has a control character in it"
	}
	*x = Number(n.text)
	return ""
}
