package network

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// link is the part of `ip -j -d address show` that is read (iproute2's ip/ipaddress.c).
type link struct {
	Flags    []string `json:"flags"`
	Alias    string   `json:"ifalias"`
	MAC      string   `json:"address"`
	Master   string   `json:"master"`
	LinkInfo struct {
		Kind string `json:"info_kind"`
	} `json:"linkinfo"`
	Addresses []struct {
		Local     string `json:"local"`
		PrefixLen int    `json:"prefixlen"`
		Label     string `json:"label"`
		Scope     string `json:"scope"`
	} `json:"addr_info"`
}

// mac is the address of a bridge that phoenix makes. Without one of its own a bridge takes the lowest of its ports',
// which changes with every container that comes or goes, and containers that know the old one talk to nobody until they
// ask anew. It is the same whenever the bridge is made again. Locally administered, unicast (IEEE 802, clause 8.4).
func mac(s spec.Network) string {
	sum := sha256.Sum256([]byte(s.Bridge + " " + s.Address))
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}

// alias marks a bridge as made by phoenix.
func alias(bridge string) string {
	return "phoenix:" + string(object.NewAddress(spec.KindNetwork, bridge))
}

// label marks an address that phoenix added to an adopted bridge; empty where the name leaves no room (IFNAMSIZ, IPv4
// only).
func label(s spec.Network) string {
	l := s.Bridge + ":phx"
	if len(l) > 15 || strings.Contains(s.Address, ":") {
		return ""
	}
	return l
}

// Observe implements provider.Driver. Another kind of interface with the bridge's name is a permanent error.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Network) (*Status, error) {
	l, err := show(ctx, h, s.Bridge)
	if l == nil || err != nil {
		return nil, err
	}
	if l.LinkInfo.Kind != "bridge" {
		return nil, provider.PermanentHint(fmt.Errorf("interface %s exists and is not a bridge", s.Bridge),
			"choose another name for the bridge")
	}
	st := &Status{Bridge: s.Bridge, Up: slices.Contains(l.Flags, "UP"), Ours: l.Alias == alias(s.Bridge), MAC: l.MAC,
		Addresses: []string{}}
	st.Trusting = trusting(h, s.Bridge)
	for _, a := range l.Addresses {
		if a.Scope == "link" {
			continue // the kernel's own
		}
		st.Addresses = append(st.Addresses, fmt.Sprintf("%s/%d", a.Local, a.PrefixLen))
	}
	return st, nil
}

// trusting are the switches by which a bridge takes routes and addresses from whoever sends them. A kernel without IPv6
// has none.
func trusting(h host.Host, bridge string) []string {
	out := []string{}
	for _, name := range []string{"accept_ra", "accept_redirects", "autoconf"} {
		path := filepath.Join("/proc/sys/net/ipv6/conf", bridge, name)
		if raw, err := h.ReadFile(path); err == nil && strings.TrimSpace(string(raw)) != "0" {
			out = append(out, path)
		}
	}
	return out
}

func show(ctx context.Context, h host.Host, bridge string) (*link, error) {
	res, argv, err := host.Link(ctx, h, bridge)
	if err != nil || len(res.Stdout) == 0 {
		return nil, err
	}
	var links []link
	err = json.Unmarshal(res.Stdout, &links)
	switch {
	case err == nil && len(links) == 0:
		return nil, nil // it went away while ip looked
	case err == nil && len(links) > 1:
		err = fmt.Errorf("%d interfaces", len(links))
	}
	if err != nil {
		return nil, host.Misread(argv, res, err)
	}
	return &links[0], nil
}
