package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// namesParams are names that must be answered, by Servers or, where there are none, by those of the host's own
// resolv.conf.
type namesParams struct {
	Servers []string      `json:"servers,omitempty"`
	Records []spec.Record `json:"records"`
}

const resolvConf = "/etc/resolv.conf"

// runResolver asks each of the resolver's addresses.
func runResolver(ctx context.Context, h host.Host, c Check, p namesParams) Result {
	for _, server := range p.Servers {
		if r := lookAll(ctx, h, c, server, p.Records, dnsTries); r.Status != Pass {
			r.Fix = "phoenix apply"
			return r
		}
	}
	return c.pass("the resolver answers every name",
		fmt.Sprintf("%d names at %s", len(p.Records), strings.Join(p.Servers, " ")))
}

// runNames asks as programs in this container do: the first server in resolv.conf that answers.
func runNames(ctx context.Context, h host.Host, c Check, p namesParams) Result {
	servers, err := nameservers(h)
	if err != nil {
		return c.fail("this container has no resolver", err.Error(), c.apply())
	}
	var r Result
	for _, server := range servers {
		r = lookAll(ctx, h, c, server, p.Records, max(1, dnsTries/len(servers)))
		if r.Status == Pass || r.Summary != silent {
			return r
		}
	}
	return r
}

// nameservers reads resolv.conf(5). Programs use the first three.
func nameservers(h host.Host) ([]string, error) {
	b, err := h.ReadFile(resolvConf)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" && len(out) < 3 {
			out = append(out, f[1])
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no nameserver in " + resolvConf)
	}
	return out, nil
}

const silent = "the resolver does not answer"

// lookAll compares every name's addresses with the wanted ones.
func lookAll(ctx context.Context, h host.Host, c Check, server string, records []spec.Record, tries int) Result {
	for _, rec := range records {
		for _, t := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			want := family(rec.Addresses, t)
			if len(want) == 0 {
				continue
			}
			have, err := query(ctx, h, server, rec.Name, t, tries)
			var answered *rcodeError
			switch {
			case errors.As(err, &answered):
				return c.fail(rec.Name+" is not known to the resolver", server+": "+err.Error(), c.apply())
			case err != nil:
				return c.fail(silent, server+": "+err.Error(), c.apply())
			case !slices.Equal(want, have):
				return c.fail(rec.Name+" has the wrong address",
					fmt.Sprintf("%s says %q, wanted %q", server, have, want), c.apply())
			}
		}
	}
	return c.pass("every name is answered", fmt.Sprintf("%d names by %s", len(records), server))
}

// family keeps the addresses that a record type can carry, sorted.
func family(addresses []string, t dnsmessage.Type) []string {
	var out []string
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a)
		if err == nil && ip.Is4() == (t == dnsmessage.TypeA) {
			out = append(out, ip.String())
		}
	}
	slices.Sort(out)
	return out
}

// rcodeError is an answer that is no address.
type rcodeError struct{ code dnsmessage.RCode }

func (e *rcodeError) Error() string { return strings.TrimPrefix(e.code.String(), "RCode") }

const (
	dnsTries = 3           // of one server; where there is another one that can be asked, fewer
	dnsWait  = time.Second // for one datagram
)

// query asks one server for one type, over UDP with lost datagrams repeated, over TCP if the answer does not fit.
func query(ctx context.Context, h host.Host, server, name string, t dnsmessage.Type, tries int) ([]string, error) {
	id := uint16(rand.Uint32())
	ask, err := question(id, name, t)
	if err != nil {
		return nil, err
	}
	var errs error
	for range tries {
		reply, err := exchange(ctx, h, "udp", server, ask)
		if err == nil {
			have, cut, perr := readReply(reply, id, t)
			if !cut {
				return have, perr
			}
			if reply, err = exchange(ctx, h, "tcp", server, ask); err == nil {
				have, _, perr := readReply(reply, id, t)
				return have, perr
			}
		}
		if errs = err; ctx.Err() != nil {
			break
		}
	}
	return nil, errs
}

func question(id uint16, name string, t dnsmessage.Type) ([]byte, error) {
	full, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: full, Type: t, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// exchange sends one message and waits for one. Over TCP each is led by its length (RFC 1035, section 4.2.2).
func exchange(ctx context.Context, h host.Host, network, server string, ask []byte) ([]byte, error) {
	conn, err := h.Dial(ctx, network, net.JoinHostPort(server, "53"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dnsWait)); err != nil {
		return nil, err
	}
	if network == "tcp" {
		ask = append(binary.BigEndian.AppendUint16(nil, uint16(len(ask))), ask...)
	}
	if _, err := conn.Write(ask); err != nil {
		return nil, err
	}
	reply := make([]byte, 4096)
	if network == "udp" {
		n, err := conn.Read(reply)
		return reply[:n], err
	}
	if _, err := io.ReadFull(conn, reply[:2]); err != nil {
		return nil, err
	}
	reply = make([]byte, binary.BigEndian.Uint16(reply))
	_, err = io.ReadFull(conn, reply)
	return reply, err
}

// readReply gives the addresses, sorted, and whether the answer was cut short.
func readReply(b []byte, id uint16, t dnsmessage.Type) (addresses []string, cut bool, err error) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return nil, false, fmt.Errorf("unreadable answer: %w", err)
	}
	if m.ID != id || !m.Response {
		return nil, false, errors.New("the answer is to another question")
	}
	if m.RCode != dnsmessage.RCodeSuccess {
		return nil, false, &rcodeError{m.RCode}
	}
	for _, rr := range m.Answers {
		switch body := rr.Body.(type) {
		case *dnsmessage.AResource:
			addresses = append(addresses, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			addresses = append(addresses, netip.AddrFrom16(body.AAAA).String())
		}
	}
	slices.Sort(addresses)
	return addresses, m.Truncated, nil
}
