package engine

import (
	"context"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// listing is texts whose driver notes at each look, and at the change, whether one listing answers for all.
type listing struct {
	texts
	all  *host.Listing
	seen []bool
}

func (m *listing) Observe(ctx context.Context, h host.Host, a object.Address, s text) (*text, error) {
	_, known := m.all.Parts(ctx, h)
	m.seen = append(m.seen, known)
	return m.texts.Observe(ctx, h, a, s)
}

// A listing answers for first looks, not for those under the lock, and for none after a change: it would be older.
func TestAChangeEndsTheRound(t *testing.T) {
	dir := t.TempDir()
	d := &listing{all: &host.Listing{Command: host.Command{Argv: []string{"true"}},
		Split: func([]byte) (map[string][]byte, error) { return map[string][]byte{}, nil }}}
	target := NewLocal(Drivers{"listing/file": provider.New(d)}, &host.Local{}, nil, nil, nil)
	ctx := host.WithRound(context.Background())
	for _, name := range []string{"a", "a", "b"} { // made; as it should be; made
		if _, err := target.Apply(ctx, textObject(t, dir, "listing", name), Consent{}); err != nil {
			t.Fatal(err)
		}
	}
	// a: the first look, the one under the lock, the one after the change; then none with a listing
	if len(d.seen) < 6 || !d.seen[0] || slices.Contains(d.seen[1:], true) {
		t.Errorf("the listing answered: %v", d.seen)
	}
}
