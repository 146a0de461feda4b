package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// The time before which keys count as known: of the file, or of this command where that is later; nonsense is told.
func TestExposedSince(t *testing.T) {
	long, later := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 2, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		file string
		wish time.Time
		want time.Time
		err  string
	}{
		"nothing":       {},
		"a file":        {file: "2026-01-02T03:04:05Z\n", want: long},
		"a later wish":  {file: "2026-01-02T03:04:05Z\n", wish: later, want: later},
		"an older wish": {file: "2026-02-02T03:04:05Z\n", wish: long, want: later},
		"garbage":       {file: "yesterday\n", err: "holds no time"},
		"to come":       {file: time.Now().Add(time.Hour).UTC().Format(time.RFC3339), err: "a time to come"},
	} {
		m := newMemoryHost()
		if c.file != "" {
			m.put("/phx-test/exposed/103", []byte(c.file), 0o644, host.Root)
		}
		a := &app{host: m, wish: wish{exposed: c.wish}}
		got, err := a.exposed(&house{machine: config.Machine{Root: "/phx-test"}}, "103")
		if c.err == "" && (err != nil || !got.Equal(c.want)) || c.err != "" &&
			(err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %s, %v; want %s %q", name, got, err, c.want, c.err)
		}
	}
}

// A rotation that was cut off is told from a renewal that happens to be due.
func TestBlames(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, c := range map[bool]plan.Change{
		true: {Delta: plan.Delta{Reason: "traefik does not serve all it should",
			Fields: []plan.Field{{Have: "to be replaced: issued before 2026-01-02T03:04:05Z"}}}},
		false: {Delta: plan.Delta{Reason: "renewal is due since 2026-03-02T03:04:05Z"}},
	} {
		if got := blames(c, since); got != want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Each pin wishes for one step, and the last one for none.
func TestStepOf(t *testing.T) {
	for want, p := range []spec.Pins{{Root: "a"}, {Root: "a", Next: "b"}, {Root: "b", Old: "a"},
		{Root: "b", Gone: "a"}} {
		if got := stepOf(p); got != want {
			t.Errorf("%+v: step %d, want %d", p, got, want)
		}
	}
	if len(rootSteps) != 4 {
		t.Errorf("%d steps have words", len(rootSteps))
	}
}

// The hypervisor's own store comes along only where one of these roots is in it: another phoenix's is not ours.
func TestHostTrusts(t *testing.T) {
	sum := sha256.Sum256([]byte("a root"))
	own := hex.EncodeToString(sum[:])
	m := newMemoryHost()
	a := &app{host: m}
	m.put(config.RootFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("a root")}),
		fs.FileMode(0o644), host.Root)
	if !a.hostTrusts(spec.Pins{Root: strings.Repeat("ab", 32), Gone: own}) ||
		a.hostTrusts(spec.Pins{Root: strings.Repeat("ab", 32)}) {
		t.Error("a root of ours is not told from another")
	}
}
