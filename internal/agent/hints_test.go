package agent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/stepca"
)

// A CA whose root is lost is refused inside of its container, and the hypervisor shows both ways that its driver names:
// the same root comes back from a backup, or another one is made.
func TestBothWaysOfALostRootAreShown(t *testing.T) {
	s := spec.StepCA{Dir: t.TempDir(), User: "0", RootName: "r", IntermediateName: "i", DNSNames: []string{"ca.test"},
		Address: ":9000", Provisioner: "acme",
		AllowedNames: []string{"a.test"}, Domains: []string{"test"}, LeafLifetime: 1, MaxLeafLifetime: 1,
		RootLifetime: 1, IntermediateLife: 1, Database: "bbolt",
		Credentials: "/c", Data: t.TempDir(), Pinned: strings.Repeat("ab", 32)}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	o := object.Object{Address: "stepca/103", Provider: "stepca", Host: "103", Container: "103", Spec: raw}
	err = stepca.Driver{}.Apply(t.Context(), &host.Local{}, o.Address, s, plan.Delta{})
	var permanent *provider.PermanentError
	if !errors.As(err, &permanent) {
		t.Fatalf("a lost root: %v", err)
	}
	shown := hintFor(o, provider.Hint(err))
	for _, part := range []string{"phoenix ca restore FILE --password-file FILE", "goes on trusting it",
		"phoenix create 103 --new-root", "every client must then be given"} {
		if !strings.Contains(shown, part) {
			t.Errorf("%q says nothing of %q", shown, part)
		}
	}
	s.Pinned = "" // a new site that nobody's command makes
	err = stepca.Driver{}.Apply(t.Context(), &host.Local{}, o.Address, s, plan.Delta{})
	if shown := hintFor(o, provider.Hint(err)); !strings.Contains(shown,
		"phoenix create 103 (or phoenix up) makes the first root") {
		t.Errorf("no root yet: %q, of %v", shown, err)
	}
}
