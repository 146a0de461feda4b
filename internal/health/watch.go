package health

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// WatchSeen is what was seen of the phoenix watch of a site.
type WatchSeen struct {
	Unit    string `json:"unit,omitempty"`    // that should run it; empty: none is installed
	PID     int    `json:"pid,omitempty"`     // 0: none runs
	Program string `json:"program,omitempty"` // which phoenix it is
	Own     string `json:"own"`               // the phoenix that asks
}

// Watch is the check of a site's watch; false where there is none and none should be.
func Watch(seen WatchSeen) (Check, bool) {
	e, _, _ := lookup(kindWatch)
	raw, err := json.Marshal(seen)
	return Check{ID: e.id, Object: object.NewAddress("watch", "hypervisor"), Kind: kindWatch, Params: raw},
		err == nil && (seen.Unit != "" || seen.PID != 0)
}

func runWatch(_ context.Context, _ host.Host, c Check, p WatchSeen) Result {
	const good = "phoenix watch runs, and is this phoenix"
	switch {
	case p.PID == 0:
		return c.fail("no phoenix watch keeps the site", p.Unit+" is installed, and no watch holds the site's lock",
			startWatch(p.Unit))
	case p.Program != p.Own:
		return c.fail("phoenix watch is another phoenix",
			fmt.Sprintf("pid %d is %s, this is %s", p.PID, p.Program, p.Own), installFix)
	}
	return c.pass(good, fmt.Sprintf("pid %d, %s", p.PID, p.Program))
}
