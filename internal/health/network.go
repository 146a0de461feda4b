package health

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// link is the part of ip -j addr show that health reads.
type link struct {
	Flags     []string `json:"flags"`
	Addresses []struct {
		Local  string `json:"local"`
		Prefix int    `json:"prefixlen"`
	} `json:"addr_info"`
}

func runBridge(ctx context.Context, h host.Host, c Check, n spec.Network) Result {
	fix := "phoenix apply"
	res, err := h.Run(ctx, host.Command{Argv: []string{"ip", "-j", "addr", "show", "dev", n.Bridge}})
	if err != nil {
		return c.fail("the bridge "+n.Bridge+" does not exist", why(err), fix)
	}
	var links []link
	if err := json.Unmarshal(res.Stdout, &links); err != nil || len(links) == 0 {
		return c.fail("the bridge "+n.Bridge+" cannot be looked at", fmt.Sprintf("ip said %q", res.Stdout), fix)
	}
	var have []string
	for _, a := range links[0].Addresses {
		have = append(have, fmt.Sprintf("%s/%d", a.Local, a.Prefix))
	}
	seen := strings.Join(links[0].Flags, ",") + " " + strings.Join(have, " ")
	switch {
	case !slices.Contains(links[0].Flags, "UP"):
		return c.fail("the bridge "+n.Bridge+" is down", seen, fix)
	case n.Address != "" && !slices.Contains(have, n.Address):
		return c.fail("the bridge "+n.Bridge+" lacks its address "+n.Address, seen, fix)
	}
	return c.pass("the bridge "+n.Bridge+" is up with its address", strings.Join(have, " "))
}
