package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// While gateway and proxy change over, new connections to the gateway wait: what asks for one is dropped, and asked
// again a second later, as with any packet that is lost. The kernel takes the rule out of effect by itself, whatever
// becomes of phoenix.
const (
	waiting      = "phoenix_waiting" // table
	waitingLimit = 25 * time.Second
)

func (m *mover) pause(ctx context.Context) (resume func(), err error) {
	none := func() {}
	pid, err := m.inside(m.old.gateway).InitPID(ctx, m.host)
	if m.old.gateway == "" || err != nil || pid == 0 {
		return none, err
	}
	if !m.onPath("nft") {
		m.notes = append(m.notes, "there is no nft on this machine: connections were refused while the proxy was "+
			"restarted")
		return none, nil
	}
	nft := []string{"nsenter", "--net=" + filepath.Join("/proc", strconv.Itoa(pid), "ns", "net"), "nft", "-f", "-"}
	rules := fmt.Sprintf(`add table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	set held { type inet_service; flags timeout; }
	chain in { type filter hook input priority -5; iifname != "lo" tcp flags & (syn|ack) == syn tcp dport @held drop; }
}
add element inet %[1]s held { 443 timeout %[2]ds }
`, waiting, int(waitingLimit.Seconds()))
	if _, err := m.host.Run(ctx, host.Command{Argv: nft, Stdin: []byte(rules), Mutates: true}); err != nil {
		m.notes = append(m.notes, fmt.Sprintf("connections could not be made to wait: %v", err))
		return none, nil
	}
	return func() {
		off := fmt.Sprintf("add table inet %[1]s\ndelete table inet %[1]s\n", waiting)
		_, err := m.host.Run(context.WithoutCancel(ctx), host.Command{Argv: nft, Stdin: []byte(off), Mutates: true})
		if err != nil {
			m.log.Warn("the rule that lets connections wait ends by itself", "after", waitingLimit, "error", err)
		}
	}, nil
}

// change makes all true that lives in gateway and proxy: first their servers, then what does not answer clients.
func (m *mover) change(ctx context.Context) error {
	if err := m.standIn(ctx); err != nil {
		return err
	}
	up, why := m.bridgeUp(ctx)
	var err error
	if up && why == nil {
		err = m.changeBridged(ctx)
	} else {
		m.log.Debug("no second proxy", "why", why)
		m.notes = append(m.notes, fmt.Sprintf("new connections had to wait while the proxy was restarted: %v", why))
		err = m.changeWaiting(ctx)
	}
	if err != nil {
		return err
	}
	return errors.Join(m.clearGateway(ctx), m.applyAll(ctx, m.insides(m.running())))
}

// changeBridged leads the gateway to the second proxy, makes the first one new, and leads the gateway back.
func (m *mover) changeBridged(ctx context.Context) error {
	gateway, rest := m.servers(m.old.gateway),
		m.servers(slices.DeleteFunc(m.running(), func(id string) bool { return id == m.old.gateway })...)
	if err := m.applyAll(ctx, m.detour(gateway)); err != nil {
		return err
	}
	if err := m.clearProxy(ctx); err != nil {
		return err
	}
	if err := m.applyAll(ctx, rest); err != nil {
		return err
	}
	if err := m.applyAll(ctx, gateway); err != nil {
		return err
	}
	return m.bridgeDown(ctx)
}

// changeWaiting lets new connections wait until all is done.
func (m *mover) changeWaiting(ctx context.Context) error {
	resume, err := m.pause(ctx)
	if err != nil {
		return err
	}
	defer resume()
	if err := m.clearProxy(ctx); err != nil {
		return err
	}
	return errors.Join(m.applyAll(ctx, m.servers(m.running()...)), m.bridgeDown(ctx))
}

// running are the ids of the containers that are not restarted.
func (m *mover) running() []string {
	var ids []string
	for _, g := range m.others() {
		ids = append(ids, g.id)
	}
	return ids
}

// servers are the objects inside of containers but for phoenix's own daemon.
func (m *mover) servers(ids ...string) []object.Object {
	ofDaemon := func(a object.Address) bool { return a.Kind() == spec.KindAgent }
	return slices.DeleteFunc(m.insides(ids), func(o object.Object) bool {
		return ofDaemon(o.Address) || slices.ContainsFunc(o.Dependencies(), ofDaemon)
	})
}

// clearProxy takes out of the proxy's directory what it would read besides phoenix's own files: they were kept for the
// way back.
func (m *mover) clearProxy(ctx context.Context) error {
	t, ok := specOf[spec.Traefik](m.objects, object.NewAddress(spec.KindTraefik, m.old.proxy, spec.TraefikConfig))
	if !ok {
		return nil
	}
	return m.clear(ctx, m.old.proxy, filepath.Join(t.Dir, "dynamic"))
}

// clearGateway takes away sites that the gateway's new configuration does not read any more.
func (m *mover) clearGateway(ctx context.Context) error {
	n, ok := specOf[spec.Nginx](m.objects, object.NewAddress(spec.KindNginx, m.old.gateway, spec.NginxBase))
	if !ok {
		return nil
	}
	return errors.Join(m.clear(ctx, m.old.gateway, filepath.Join(n.Dir, "sites-enabled")),
		m.clear(ctx, m.old.gateway, filepath.Join(n.Dir, "conf.d")))
}

// clear removes what is not phoenix's from a directory in a container, and tells what that was.
func (m *mover) clear(ctx context.Context, id, directory string) error {
	const clear = `[ -d "$1" ] || exit 0; find "$1" -xdev -mindepth 1 ! -type d ! -name 'phoenix-*' -print -delete`
	res, err := m.inside(id).Attach(ctx, m.host, host.Command{Mutates: true}, "sh", "-c", clear, "sh", directory)
	if gone := strings.Fields(string(res.Stdout)); len(gone) > 0 {
		m.notes = append(m.notes, fmt.Sprintf("container %s: %s is read no more: what the configuration does not "+
			"have as a route is gone with it; %s has it", id, strings.Join(gone, ", "), m.journal.tree(id)))
	}
	return err
}
