package issued

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// ordersMost is how many orders are looked up in the log.
const ordersMost = 20

var (
	orderID   = regexp.MustCompile(`^[A-Za-z0-9]{8,64}$`)
	finalized = regexp.MustCompile(`path=\S*/order/([A-Za-z0-9]+)/finalize`)
	remote    = regexp.MustCompile(`remote-address="?([0-9A-Fa-f.:]+)"?`)
)

// From finds in step-ca's log which addresses finalized orders. It may find none: the log is for reading, not for
// counting.
func From(ctx context.Context, h host.Host, orders []string, since time.Time) map[string]string {
	var wanted []string
	for _, o := range orders {
		if orderID.MatchString(o) && len(wanted) < ordersMost {
			wanted = append(wanted, o)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	argv := []string{"journalctl", "--unit=step-ca.service", "--output=cat", "--no-pager", "--quiet",
		"--since=" + since.UTC().Format("2006-01-02 15:04:05 UTC"),
		"--grep=order/(" + strings.Join(wanted, "|") + ")/finalize"}
	res, err := h.Run(ctx, host.Command{Argv: argv, Limit: 2 * time.Second})
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for line := range strings.Lines(string(res.Stdout)) {
		order, address := finalized.FindStringSubmatch(line), remote.FindStringSubmatch(line)
		if order != nil && address != nil {
			out[order[1]] = address[1]
		}
	}
	return out
}
