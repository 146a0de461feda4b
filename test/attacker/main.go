// Command attacker is root in a container that means harm: it sends what a container must not, tries to get
// certificates for the names of others, and, on the other side, counts what arrived. It is for the tests of test/e2e,
// which build it and put it into a container of their own; phoenix does not know it.
//
//	attacker send  -interface eth0 -own MAC,IP -victim MAC,IP -target MAC,IP -host MAC,IP    every frame of the table, and a flood
//	attacker steal … -directory URL -names A,B -for 10s                                        asks the CA as the victim; prints JSON
//	attacker listen -but PORT -for 5s                                                          counts marked frames by name until its input ends; prints JSON
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// peer is somebody on the bridge.
type peer struct {
	mac net.HardwareAddr
	ip  netip.Addr
}

// Set implements flag.Value.
func (p *peer) Set(text string) error {
	mac, ip, _ := strings.Cut(text, ",")
	var err error
	if p.mac, err = net.ParseMAC(mac); err != nil {
		return err
	}
	p.ip, err = netip.ParseAddr(ip)
	return err
}

// String implements flag.Value.
func (p *peer) String() string { return fmt.Sprintf("%s,%s", p.mac, p.ip) }

// link is the peer's IPv6 address.
func (p *peer) link() netip.Addr {
	m := p.mac
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// scene is who is there.
type scene struct {
	iface                     string
	own, victim, target, host peer
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "attacker:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("send, steal or listen")
	}
	var s scene
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&s.iface, "interface", "eth0", "its own")
	flags.Var(&s.own, "own", "MAC,IP of this container")
	flags.Var(&s.victim, "victim", "MAC,IP of the one whose place it takes")
	flags.Var(&s.target, "target", "MAC,IP of the one that it tells lies")
	flags.Var(&s.host, "host", "MAC,IP of the bridge")
	directory := flags.String("directory", "", "of the CA (RFC 8555)")
	names := flags.String("names", "", "that certificates are asked for, by commas")
	limit := flags.Duration("for", 5*time.Second, "how long")
	flood := flags.Int("flood", 20000, "forged MACs")
	only := flags.String("only", "", "send what has this in its name")
	but := flags.String("but", "", "interface that is not listened on")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var out any
	var err error
	switch args[0] {
	case "send":
		out, err = send(s, *flood, *only)
	case "steal":
		out, err = steal(s, *directory, strings.Split(*names, ","), *limit)
	case "listen":
		out, err = listen(*but, *limit)
	default:
		err = fmt.Errorf("%q is not send, steal or listen", args[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
