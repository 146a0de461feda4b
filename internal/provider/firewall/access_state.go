package firewall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// readAccess reads the state file; where there is none, or a machine went down while it was written, nothing is
// phoenix's.
func readAccess(h host.Host, s spec.Access) (accessState, error) {
	var state accessState
	raw, err := h.ReadFile(s.State)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err == nil && (json.Unmarshal(raw, &state) != nil || state.Mode == "") {
		err = provider.PermanentHint(fmt.Errorf("%s cannot be read: it does not say whose forwarding phoenix "+
			"switched on", s.State),
			"look at net.ipv4.conf.INTERFACE.forwarding of the uplink and of "+s.Bridge+", and remove the file")
	}
	if state.Mode == spec.AccessForward && len(state.Ports) == 0 {
		state.Ports = []string{"tcp/80", "tcp/443"} // of a version that did not write them down
	}
	return state, err
}

func writeAccess(h host.Host, s spec.Access, have, want accessState) error {
	if reflect.DeepEqual(have, want) {
		return nil
	}
	raw, err := json.Marshal(want)
	if err == nil {
		err = h.MkdirAll(filepath.Dir(s.State), 0o755, host.Root)
	}
	if err != nil {
		return err
	}
	return h.WriteFile(s.State, append(raw, '\n'), 0o644, host.Root)
}

// uplink is the interface that leads out of the machine. Where the bridge itself does, there is nothing to forward:
// clients of the LAN are on the same network as the containers.
func uplink(h host.Host, s spec.Access) (string, error) {
	raw, err := h.ReadFile("/proc/net/route")
	if err != nil {
		return "", err
	}
	up := spec.DefaultRoute(string(raw))
	switch {
	case up == s.Bridge:
		return "", leadsOut(s, "the default route of this machine")
	case up == "":
		return "", provider.WithHint(errors.New("access from the LAN: this machine has no default route, so it is "+
			"not known which interface leads out"),
			`connect the machine, or set access to "none"`)
	case !ifname.MatchString(up):
		return "", provider.Permanent(fmt.Errorf("access from the LAN: the default route's interface has the name "+
			"%q, which phoenix does not use", up))
	}
	own, err := host.LeadingOut(h, s.Bridge)
	if err == nil && own != "" {
		err = leadsOut(s, "port "+own)
	}
	return up, err
}

func leadsOut(s spec.Access, how string) error {
	return provider.PermanentHint(fmt.Errorf("access %s: bridge %s leads out of the machine itself (%s): clients of "+
		"the LAN reach its containers without phoenix", s.Mode, s.Bridge, how),
		`set access to "none"; phoenix access says how clients reach the gateway`)
}

func forwardingFile(name string) string {
	return filepath.Join("/proc/sys/net/ipv4/conf", name, "forwarding")
}

// forwards is whether the kernel takes packets that come in at an interface further.
func forwards(h host.Host, name string) (bool, error) {
	raw, err := h.ReadFile(forwardingFile(name))
	return strings.TrimSpace(string(raw)) == "1", err
}

// setForwarding writes in place: the kernel's files cannot be replaced. An interface that is gone needs nothing
// switched off.
func setForwarding(ctx context.Context, h host.Host, name string, on bool) error {
	have, err := forwards(h, name)
	if errors.Is(err, fs.ErrNotExist) && !on || err == nil && have == on {
		return nil
	}
	if err != nil {
		return err
	}
	value := map[bool]string{true: "1", false: "0"}[on]
	argv := []string{"sh", "-c", `printf '%s\n' "$2" >"$1"`, "sh", forwardingFile(name), value}
	if _, err := h.Run(ctx, host.Command{Argv: argv, Mutates: true}); err != nil {
		return provider.PermanentHint(fmt.Errorf("forwarding of interface %s cannot be switched: %w", name, err),
			"in a container only the machine that it runs on can do that")
	}
	return nil
}

// closeAll switches off what phoenix switched on. Where all of the machine forwards by now somebody else had that
// switched on, who needs these interfaces as well.
func closeAll(ctx context.Context, h host.Host, ours []string) error {
	raw, err := h.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil || strings.TrimSpace(string(raw)) == "1" {
		return err
	}
	for _, name := range ours {
		if err := setForwarding(ctx, h, name, false); err != nil {
			return err
		}
	}
	return nil
}

// portsFree refuses to take ports away from a server of the hypervisor's own. Those that were taken before are not looked
// at again. It returns all that are taken now.
func portsFree(h host.Host, s spec.Access, taken []string) (ports []string, err error) {
	var held []string
	for _, lead := range s.Leads() {
		ports = append(ports, lead.Port)
		proto, text, _ := strings.Cut(lead.Port, "/")
		number, err := strconv.Atoi(text)
		if err != nil || slices.Contains(taken, lead.Port) {
			continue
		}
		who := host.ListenersOn(h, number)
		if proto == "udp" {
			who = host.ReceiversOn(h, number)
		}
		if len(who) > 0 {
			held = append(held, fmt.Sprintf("port %d (%s, for %s) of this machine is served by %s", number, proto, lead.To,
				strings.Join(who, ", ")))
		}
	}
	if len(held) > 0 {
		return nil, provider.PermanentHint(fmt.Errorf("access forward: %s, which clients of the LAN would not reach any "+
			"more", strings.Join(held, "; ")),
			`stop it, or let it listen on another port or on 127.0.0.1 only; or take the port out of "ports"; or set `+
				`access to "route"`)
	}
	return ports, nil
}

func needsNFTFor(what string, err error) error {
	if host.Missing(err) {
		return provider.PermanentHint(fmt.Errorf("%s needs nft: %w", what, err), "apt-get install nftables")
	}
	return err
}
