package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// While gateway and proxy change over, new connections to the gateway wait: what asks for one is dropped, and asked again a second
// later, as with any packet that is lost. The kernel takes the rule out of effect by itself, whatever becomes of phoenix.
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
		m.notes = append(m.notes, "there is no nft on this machine: connections were refused while the proxy was restarted")
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
	var ids []string
	for _, g := range m.others() {
		ids = append(ids, g.id)
	}
	rest := []string{spec.KindAgent}
	inside := m.insides(ids)
	first := slices.DeleteFunc(slices.Clone(inside), func(o object.Object) bool {
		return slices.Contains(rest, o.Address.Kind()) || o.Address.Kind() == spec.KindUnit && slices.ContainsFunc(o.Dependencies(), func(a object.Address) bool { return a.Kind() == spec.KindAgent })
	})
	start := time.Now()
	resume, err := m.pause(ctx)
	if err != nil {
		return err
	}
	if err = m.clearProxy(ctx); err == nil {
		err = m.applyAll(ctx, first)
	}
	resume()
	m.log.Info("new connections waited", "for", time.Since(start))
	if err != nil {
		return err
	}
	return m.applyAll(ctx, inside)
}

// clearProxy takes out of the proxy's folder what it would read besides phoenix's own files: they were kept for the way back.
func (m *mover) clearProxy(ctx context.Context) error {
	t, ok := specOf[spec.Traefik](m.objects, object.NewAddress(spec.KindTraefik, m.old.proxy, spec.TraefikConfig))
	if !ok {
		return nil
	}
	const clear = `[ -d "$1" ] || exit 0; find "$1" -xdev -type f ! -name 'phoenix-*' -print -delete`
	_, err := m.inside(m.old.proxy).Attach(ctx, m.host, host.Command{Mutates: true}, "sh", "-c", clear, "sh", filepath.Join(t.Dir, "dynamic"))
	return err
}
