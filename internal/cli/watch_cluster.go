package cli

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// clusterPolls are what of a Proxmox cluster each full round goes by: whether it can be changed, the switch of its
// firewall, and which containers are on this node. All change without an event of inotify where another node is the
// reason.
func (w *watcher) clusterPolls() []provider.Poll {
	p := w.session.machine.Proxmox
	if p == nil {
		return nil
	}
	filters := filepath.Join(p.Dir, "firewall", "cluster.fw")
	polls := []provider.Poll{{Path: filepath.Join(p.Dir, "local")}, {Path: filters}}
	for _, id := range w.session.ids() {
		polls = append(polls, provider.Poll{Path: filepath.Join(p.Dir, ".vmlist"), Part: "ids/" + id + "/node"})
	}
	return polls
}

// tellFirewall says, once, that the firewall of the whole cluster is off, and once that it is on again. Others may
// rest on that switch, so that watch does not touch it.
func (w *watcher) tellFirewall() {
	p := w.session.machine.Proxmox
	if p == nil || !w.there(filepath.Join(p.Dir, "local")) {
		return // without pmxcfs there is no switch to be seen
	}
	i := slices.IndexFunc(w.session.diags, func(d diag.Diagnostic) bool { return d.Summary == config.FilterOff })
	entry := engine.Entry{Object: object.NewAddress(spec.KindNode, "firewall")}
	switch {
	case i >= 0 == w.off:
		return
	case i >= 0:
		entry.Error = config.FilterOff
		w.view.Error(errors.New(string(entry.Object)+": "+entry.Error), w.session.diags[i].Hint)
	default:
		entry.Reason = "Proxmox's firewall is on for the whole cluster again"
		w.view.Step(string(entry.Object) + ": " + entry.Reason)
	}
	w.off = i >= 0
	if err := w.journal.Write(entry); err != nil {
		w.log.Warn("the event was not written down", "error", err)
	}
}
