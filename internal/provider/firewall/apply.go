package firewall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver. Until the tables are sealed at the end they count as half made; they hold from the
// first step.
func (d Driver) Apply(ctx context.Context, h host.Host, a object.Address, s spec.Firewall, _ plan.Delta) error {
	native, err := tracked(ctx, h, s)
	if err != nil {
		return err
	}
	learned := !checksGroups(h, s.Bridge)
	if learned {
		if err := showGroups(ctx, h, s.Bridge); err != nil {
			return err
		}
	}
	have, err := d.Observe(ctx, h, a, s)
	if err != nil || have != nil && d.Diff(s, have).Empty() {
		return err
	}
	if _, err := nft(ctx, h, host.Command{Stdin: []byte(render(s, native)), Mutates: true}, "--file", "-"); err != nil {
		return needsNFT(s, err)
	}
	if have == nil || learned || !have.Whole || have.Identity != identityDigest(s) {
		if err := introduce(ctx, h, s); err != nil {
			return err
		}
	}
	text, err := list(ctx, h, "bridge", s)
	if err != nil {
		return err
	}
	marks := ""
	if !s.Open {
		if marks, err = list(ctx, h, "inet", s); err != nil {
			return err
		}
	}
	_, err = nft(ctx, h, host.Command{Mutates: true}, "add", "chain", "bridge", table(s), "sealed_"+seal(text, marks))
	return err
}

// tracked sees that connections on the bridge are tracked, where rules ask for it, and tells whether the kernel does so
// by itself.
func tracked(ctx context.Context, h host.Host, s spec.Firewall) (native bool, err error) {
	if s.Open {
		return false, nil
	}
	native, err = follows(ctx, h, s)
	if err == nil && !native && !handed(h, s.Bridge) {
		err = hand(ctx, h, s)
	}
	return native, err
}

// showing is held while a bridge is made to show its groups, which all containers on it ask for at once.
var showing sync.Mutex

// showGroups keeps the groups that are forwarded already.
func showGroups(ctx context.Context, h host.Host, bridge string) error {
	showing.Lock()
	defer showing.Unlock()
	if checksGroups(h, bridge) { // another was faster
		return nil
	}
	mask, _ := groupMask(h, bridge)
	argv := []string{"ip", "link", "set", "dev", bridge, "type", "bridge", "group_fwd_mask",
		fmt.Sprintf("%#x", mask|lldp)}
	_, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true})
	return err
}

func needsNFT(s spec.Firewall, err error) error {
	if host.Missing(err) {
		return provider.PermanentHint(fmt.Errorf("%s needs nft: %w", named(s), err), "apt-get install nftables")
	}
	return err
}

// forgetAll makes a bridge, the hypervisor and every container on the bridge forget which MAC is where and whose
// address it has: while the identity of one of them was not pinned, it may have said anything. All of it is learned
// again with the next packets.
const forgetAll = `ip link set dev "$1" type bridge fdb_flush
ip neighbour flush dev "$1"
ids=" $(ip -o link show master "$1" | sed -n 's/.* link-netnsid \([0-9]*\).*/\1/p' | tr '\n' ' ') "
lsns --type net --noheadings --raw --output NETNSID,PID | while read -r id pid; do
	case $ids in *" $id "*) timeout 2 nsenter --net="/proc/$pid/ns/net" ip neighbour flush all || : ;; esac
done`

// readdress gives the other end of a port its MAC: a container that was adopted while it ran may have had another one
// since its start.
const readdress = `line=$(ip -o link show dev "$1")
index=${line#*@if} index=${index%%:*} id=${line#* link-netnsid } id=${id%% *}
pid=$(lsns --type net --noheadings --raw --output NETNSID,PID | sed -n "s/^$id //p" | head -n 1)
[ -n "$pid" ] || exit 0
inside="timeout 2 nsenter --net=/proc/$pid/ns/net ip"
set -- "$2" $($inside -o link | sed -n "s/^$index: \([^:@]*\)[:@].* link\/ether \([0-9a-f:]*\).*/\1 \2/p")
[ -z "$2" ] || [ "$1" = "$3" ] || $inside link set dev "$2" address "$1"`

// introduce begins again where the container is on the bridge already: it has its MAC, and nobody believes what was
// said before. One command serves all that ask at once.
func introduce(ctx context.Context, h host.Host, s spec.Firewall) error {
	if _, err := h.Lstat(filepath.Join("/sys/class/net", s.Bridge, "brif", s.Port)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	argv := []string{"sh", "-ec", readdress, "sh", s.Port, s.MAC}
	if _, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true}); err != nil {
		return err
	}
	_, err := h.Run(ctx, host.Command{Argv: []string{"sh", "-ec", forgetAll, "sh", s.Bridge}, Mutates: true,
		Shared: true})
	return err
}

// Delete implements provider.Deleter.
func (Driver) Delete(ctx context.Context, h host.Host, _ object.Address, s spec.Firewall) error {
	for _, family := range []string{"bridge", "inet"} {
		text, err := list(ctx, h, family, s)
		if host.Missing(err) {
			return nil // without nft there are no tables
		}
		if err != nil {
			return err
		}
		if text == "" {
			continue
		}
		if _, err := nft(ctx, h, host.Command{Mutates: true}, "delete", "table", family, table(s)); err != nil {
			return err
		}
	}
	return nil
}

func nft(ctx context.Context, h host.Host, c host.Command, args ...string) (host.Result, error) {
	c.Argv = append([]string{"nft"}, args...)
	return h.Run(ctx, c)
}

// follows asks the kernel whether it follows connections on bridges by itself. Nothing is changed.
func follows(ctx context.Context, h host.Host, s spec.Firewall) (bool, error) {
	probe := fmt.Sprintf("table bridge %s_probe {\n\tchain probe {\n\t\tct state established accept\n\t}\n}\n",
		table(s))
	res, err := nft(ctx, h, host.Command{Stdin: []byte(probe)}, "--check", "--file", "-")
	said := strings.TrimSpace(string(res.Stdout) + string(res.Stderr))
	switch {
	case host.Missing(err):
		return false, needsNFT(s, err)
	case err == nil && said != "":
		return false, host.Misread([]string{"nft", "--check", "--file", "-"}, res,
			errors.New("nft says nothing where all is well"))
	case err != nil && strings.Contains(said, "Could not process rule"):
		return false, nil
	}
	return err == nil, err
}

// hand makes the packets on the bridge, on this one only, pass the hooks of IP.
func hand(ctx context.Context, h host.Host, s spec.Firewall) error {
	own := switches(s.Bridge)[0]
	if _, err := h.Lstat("/proc/sys/net/bridge"); errors.Is(err, fs.ErrNotExist) {
		if _, err := h.Run(ctx, host.Command{Argv: []string{"modprobe", "br_netfilter"}, Mutates: true}); err != nil {
			return provider.PermanentHint(fmt.Errorf("%s: this kernel does not follow connections on bridges: %w",
				named(s), err),
				"use a kernel with nf_conntrack_bridge or br_netfilter, or set firewall.enabled to false")
		}
	}
	if _, err := h.Lstat(filepath.Dir(own)); err != nil {
		return fmt.Errorf("bridge %s is not there: %w", s.Bridge, err)
	}
	_, err := h.Run(ctx,
		host.Command{Argv: []string{"ip", "link", "set", "dev", s.Bridge, "type", "bridge", "nf_call_iptables", "1"},
			Mutates: true})
	return err
}
