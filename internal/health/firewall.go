package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// flowParams is a way between two containers.
type flowParams struct {
	Address string `json:"address"`
	Ports   []int  `json:"ports"`
}

const (
	openWait   = 3 * time.Second        // a first packet that is lost is sent again after one
	closedWait = 700 * time.Millisecond // across a bridge somebody answers in one, if anybody does
)

// How an attempt to connect ends: what gets through is answered by the other side, be it with a no.
const (
	getsThrough = "gets through"
	silence     = "no answer"
)

// try connects to a port.
func try(ctx context.Context, h host.Host, address string, port int, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err == nil {
		return getsThrough, conn.Close()
	}
	var slow net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return getsThrough, nil
	case errors.As(err, &slow) && slow.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return silence, nil
	}
	return "", err
}

// runFlowOpen only asks whether the other side hears of it: whether something listens there is for other checks to say.
func runFlowOpen(ctx context.Context, h host.Host, c Check, p flowParams) Result {
	for _, port := range p.Ports {
		how, err := try(ctx, h, p.Address, port, openWait)
		switch {
		case err != nil:
			return c.fail("what the firewall lets in could not be tried", err.Error(), c.apply())
		case how != getsThrough:
			return c.fail(fmt.Sprintf("the firewall lets in port %d, and nothing gets through", port),
				fmt.Sprintf("%s:%d: no answer within %s", p.Address, port, openWait), c.apply())
		}
	}
	return c.pass("what the firewall lets in gets through", spoken(p))
}

// runFlowClosed takes silence for a closed door: a port that nobody listens on is answered with a no, if the question
// gets through.
func runFlowClosed(ctx context.Context, h host.Host, c Check, p flowParams) Result {
	for _, port := range p.Ports {
		how, err := try(ctx, h, p.Address, port, closedWait)
		switch {
		case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
			return c.unasked("what the firewall keeps out was not tried: the container cannot be reached at all",
				err.Error())
		case err != nil:
			return c.fail("what the firewall keeps out could not be tried", err.Error(), c.apply())
		case how == getsThrough:
			return c.fail(fmt.Sprintf("no rule lets in port %d, and it is answered", port),
				fmt.Sprintf("%s:%d", p.Address, port), c.apply())
		}
	}
	return c.pass("what no rule lets in stays outside", spoken(p)+": silence")
}

func spoken(p flowParams) string {
	var out []string
	for _, port := range p.Ports {
		out = append(out, net.JoinHostPort(p.Address, strconv.Itoa(port)))
	}
	return strings.Join(out, " ")
}

// runSwitch looks for the one switch that all of Proxmox's firewalls hang on.
func runSwitch(_ context.Context, h host.Host, c Check, p spec.NodeFirewall) Result {
	path := filepath.Join(p.Proxmox.Dir, "firewall", "cluster.fw")
	raw, err := h.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c.fail("it is not known whether Proxmox's firewall is on", err.Error(), "pve-firewall status")
	}
	if !spec.FilterOn(string(raw)) {
		return c.fail("Proxmox's firewall is off for the whole cluster: the rules of the containers have no effect",
			path+" has no enable: 1",
			"phoenix apply --yes; the nodes' own firewall comes with it")
	}
	return c.pass("Proxmox's firewall is on", path)
}
