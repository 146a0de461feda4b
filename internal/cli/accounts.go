package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func (h *house) accountsPath() string { return filepath.Join(h.machine.Root, "accounts.json") }

// knownAccounts are the accounts and names that containers had, as it was written down. What cannot be read is not
// known.
func (s *session) knownAccounts() map[string]issued.Known {
	out := map[string]issued.Known{}
	raw, err := s.host.ReadFile(s.accountsPath())
	if err == nil && json.Unmarshal(raw, &out) != nil {
		s.log.Warn("cannot be read, and is begun again", "file", s.accountsPath())
		out = map[string]issued.Known{}
	}
	return out
}

// rememberAccounts writes down which accounts and names containers have, after a run that may have changed them.
// Without it a certificate could not be told from a stolen one once its container was made again. The run may have
// made the CA: no pin was known before it.
func (s *session) rememberAccounts(ctx context.Context, containers []string) {
	o, ca, ok := s.certificateAuthority()
	if !ok || ctx.Err() != nil {
		return
	}
	policy := s.issuedPolicy(ca, o)
	s.askHeld(ctx, &policy, containers)
	s.writeAccounts(ctx, policy, policy.Remember)
}

// learnAccounts is rememberAccounts for watch: it takes what a round has seen anyway, and asks nobody. Where the
// site was deleted meanwhile it makes nothing.
func (s *session) learnAccounts(ctx context.Context, seen map[object.Address]provider.Observation) {
	o, ca, ok := s.certificateAuthority()
	if _, err := s.host.Lstat(s.recordPath()); !ok || err != nil || ctx.Err() != nil {
		return
	}
	policy := s.issuedPolicy(ca, o)
	for _, o := range s.objects {
		if status := seen[o.Address].Status; isCertificate(o) && len(status) > 0 {
			held := policy.Held[o.Container]
			held.Accounts = append(held.Accounts, issued.AccountsIn(status)...)
			policy.Held[o.Container] = held
		}
	}
	s.writeAccounts(ctx, policy, policy.Learn)
}

const lockSuffix = ".lock"

// accountsWait is how long another one who writes down accounts is waited for: it reads and writes one file.
const accountsWait = 2 * time.Second

// writeAccounts writes the memory if it is another now. What others wrote since the policy was made counts.
func (s *session) writeAccounts(ctx context.Context, p issued.Policy, memory func(time.Time) map[string]issued.Known) {
	ctx, cancel := context.WithTimeout(ctx, accountsWait)
	defer cancel()
	unlock, err := engine.FileLock{Path: s.accountsPath() + lockSuffix}.Lock(ctx)
	if err != nil {
		s.log.Warn("the accounts of the containers were not written down", "error", err)
		return
	}
	defer unlock()
	clear(p.Known) // the maps of a policy are what memory reads
	for id, k := range s.knownAccounts() {
		p.Known[id] = k
	}
	text, err := json.Marshal(memory(s.host.Now()))
	if err == nil {
		text = append(text, '\n')
		if before, readErr := s.host.ReadFile(s.accountsPath()); readErr == nil && string(before) == string(text) {
			return
		}
		err = s.host.WriteFile(s.accountsPath(), text, 0o600, host.Root)
	}
	if err != nil {
		s.log.Warn("the accounts of the containers were not written down", "error", err)
	}
}
