package certificate

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// reloads is how things stand with the reload since the certificate changed.
type reloads struct {
	due     bool
	pending string // why it is not done now; empty: there is no such reason
}

// lookReload tells whether the reload is still to be done. One whose unit does not exist yet is pending, and no
// failure: often it is the application's script that makes the unit, and the script runs once the certificate is there.
// A unit that was started after the change has read the new certificate, and needs no reload.
func lookReload(ctx context.Context, h host.Host, s spec.Certificate) reloads {
	l := layoutOf(s)
	changed, err := h.Lstat(l.marker())
	if err != nil {
		return reloads{}
	}
	units := s.ReloadUnits()
	if len(units) == 0 {
		return reloads{due: true}
	}
	seen, err := showUnits(ctx, h, units)
	if err != nil {
		return reloads{due: true} // the command itself says what is wrong
	}
	switched := changed.ModTime
	if link, err := h.Lstat(filepath.Join(l.versions, current)); err == nil && link.ModTime.After(switched) {
		switched = link.ModTime
	}
	var missing []string
	fresh := 0
	for i, u := range seen {
		switch {
		case u["LoadState"] == "not-found":
			missing = append(missing, units[i])
		case startedAfter(u, switched):
			fresh++
		}
	}
	if len(missing) > 0 {
		return reloads{pending: strings.Join(missing, ", ") + " does not exist yet"}
	}
	return reloads{due: fresh < len(units)}
}

// showUnits asks systemd for units, which it knows something of also where they do not exist; one answer for each, in
// their order.
func showUnits(ctx context.Context, h host.Host, units []string) ([]map[string]string, error) {
	argv := append([]string{"systemctl", "show", "--timestamp=us+utc",
		"--property=LoadState,ActiveState,ActiveEnterTimestamp", "--"}, units...)
	res, err := h.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return nil, fmt.Errorf("systemd does not answer for %s: %w", strings.Join(units, ", "), err)
	}
	var out []map[string]string
	for block := range strings.SplitSeq(strings.TrimSpace(string(res.Stdout)), "\n\n") {
		u := map[string]string{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			u[key] = value
		}
		out = append(out, u)
	}
	if len(out) != len(units) ||
		slices.ContainsFunc(out, func(u map[string]string) bool { return u["LoadState"] == "" }) {
		return nil, fmt.Errorf("systemd does not say what it knows of %s", strings.Join(units, ", "))
	}
	return out, nil
}

// startedAfter is whether a unit runs that was started after that time. Where it does not say when, it counts as older.
func startedAfter(u map[string]string, at time.Time) bool {
	if u["ActiveState"] != "active" {
		return false
	}
	start, err := time.Parse("Mon 2006-01-02 15:04:05.999999 UTC", u["ActiveEnterTimestamp"])
	return err == nil && start.After(at)
}
