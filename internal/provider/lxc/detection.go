package lxc

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Flags of an address in /proc/net/if_inet6 (linux/if_addr.h).
const (
	duplicate = 0x08
	tentative = 0x40
)

// detectionLimit is how long duplicate address detection is waited for: the kernel takes one to two seconds.
const (
	detectionLimit = 5 * time.Second
	detectionPoll  = 100 * time.Millisecond
)

// waitDetected waits until the container's IPv6 address can be used: while it is tentative (RFC 4862, 5.4), connections
// leave from the link-local one, and hang for minutes.
func waitDetected(ctx context.Context, h host.Host, s spec.Running) error {
	config, defined, err := readConfig(h, s.Path, s.ID)
	if !defined || err != nil {
		return err
	}
	want, _ := keys(config)
	prefix, err := netip.ParsePrefix(want["lxc.net.0.ipv6.address"])
	if err != nil {
		return nil // there is none
	}
	ctx, cancel := context.WithTimeout(ctx, detectionLimit)
	defer cancel()
	for {
		pid, err := inside(s.Path, s.ID).InitPID(ctx, h)
		if err != nil || pid == 0 {
			return nil // whoever looks next sees that it ended
		}
		switch flags, known := flagsOf(h, pid, prefix.Addr()); {
		case known && flags&duplicate != 0:
			return provider.PermanentHint(fmt.Errorf("the IPv6 address %s of container %s is another machine's",
				prefix.Addr(), s.ID), "give the container another ip6, or that machine another address")
		case !known || flags&tentative == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(detectionPoll):
		}
	}
}

// flagsOf are those of an address in the network namespace of a process.
func flagsOf(h host.Host, pid int, address netip.Addr) (flags uint64, known bool) {
	list, err := h.ReadFile(fmt.Sprintf("/proc/%d/net/if_inet6", pid))
	if err != nil {
		return 0, false // a kernel without IPv6
	}
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line) // address, interface, length of the prefix, scope, flags, name
		if len(f) > 4 && f[0] == fmt.Sprintf("%x", address.AsSlice()) {
			flags, err := strconv.ParseUint(f[4], 16, 8)
			return flags, err == nil
		}
	}
	return 0, false
}
