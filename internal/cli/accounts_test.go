package cli

import (
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// watchedSite is a CA and two clients of it.
func watchedSite(t *testing.T) *session {
	t.Helper()
	s := &session{app: &app{host: &host.Local{}, log: slog.New(slog.DiscardHandler)},
		house: &house{cfg: &config.Config{}}}
	s.machine.Root = t.TempDir()
	if err := os.WriteFile(s.recordPath(), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	add := func(kind, id, name string, of any) {
		raw, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		a := object.NewAddress(kind, id)
		if name != "" {
			a = object.NewAddress(kind, id, name)
		}
		s.objects = append(s.objects, object.Object{Address: a, Container: id, Host: id, Spec: raw})
	}
	add(spec.KindStepCA, "103", "", spec.StepCA{Dir: "/ssl"})
	add(spec.KindCertificate, "101", "www", spec.Certificate{CommonName: "www.x", DNSNames: []string{"www.x"}})
	add(spec.KindTraefik, "102", "certificates", spec.Traefik{Part: spec.TraefikCertificates})
	return s
}

func print43(c string) string { return strings.Repeat(c, 43) }

func seenAccounts(accounts map[string]string) map[object.Address]provider.Observation {
	out := map[object.Address]provider.Observation{}
	for address, account := range accounts {
		out[object.Address(address)] = provider.Observation{Status: json.RawMessage(`{"accounts":["` + account + `"]}`)}
	}
	return out
}

// An account that was made and lost while only watch ran is remembered: what it ordered is no stranger's.
func TestWatchRemembersAccounts(t *testing.T) {
	s := watchedSite(t)
	s.learnAccounts(t.Context(),
		seenAccounts(map[string]string{"certificate/101/www": print43("a"), "traefik/102/certificates": print43("t")}))
	before, err := os.Stat(s.accountsPath())
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", before.Mode())
	}
	// 101 was destroyed, and has another one in the next round.
	s.learnAccounts(t.Context(), seenAccounts(map[string]string{"certificate/101/www": print43("b")}))
	known := s.knownAccounts()
	for id, accounts := range map[string][]string{"101": {print43("a"), print43("b")}, "102": {print43("t")}} {
		for _, a := range accounts {
			if end, has := known[id].Accounts[a]; !has || !end.IsZero() {
				t.Errorf("%s of container %s: known %v, ended %v", a, id, has, end)
			}
		}
	}
	p := issued.Policy{Owners: []issued.Owner{{Container: "101", Names: []string{"www.x"}}}, Known: known}
	x := issued.Certificate{Serial: "1", Names: []string{"www.x"}, Account: print43("a"), NotBefore: time.Now(),
		NotAfter: time.Now().Add(time.Hour)}
	if got := p.Judge(x); got.State != issued.Former {
		t.Errorf("what the lost account ordered is %s", got.State)
	}
}

// A round that has seen nothing new writes nothing, and one that has seen nothing forgets nothing.
func TestWatchWritesAccountsOnce(t *testing.T) {
	s := watchedSite(t)
	seen := seenAccounts(map[string]string{"certificate/101/www": print43("a")})
	s.learnAccounts(t.Context(), seen)
	first, err := os.ReadFile(s.accountsPath())
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.accountsPath(), old, old); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.learnAccounts(t.Context(), seen)
		s.learnAccounts(t.Context(), nil)
		s.learnAccounts(t.Context(),
			seenAccounts(map[string]string{"certificate/101/www": "\\u001b[2J", "unit/101/x": print43("x")}))
	}
	again, err := os.ReadFile(s.accountsPath())
	fi, statErr := os.Stat(s.accountsPath())
	if err != nil || statErr != nil || string(again) != string(first) || !fi.ModTime().Equal(old) {
		t.Errorf("written again, as %s", again)
	}
}

// Where the site was deleted nothing is made again.
func TestWatchRemembersNothingOfADeletedSite(t *testing.T) {
	s := watchedSite(t)
	if err := os.RemoveAll(s.machine.Root); err != nil {
		t.Fatal(err)
	}
	s.learnAccounts(t.Context(), seenAccounts(map[string]string{"certificate/101/www": print43("a")}))
	if _, err := os.Lstat(s.machine.Root); !os.IsNotExist(err) {
		t.Errorf("the root is there again: %v", err)
	}
}
