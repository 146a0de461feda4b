package health

import (
	"context"
	"net"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// commandParams is a command of the users'.
type commandParams struct {
	Command string `json:"command"`
}

// dials is a command that only asks whether a port takes connections: that can be asked without netcat, which is rarely
// there.
var dials = regexp.MustCompile(`^nc((?: -[zvnw]+(?: ?[0-9]+)?)+) +([A-Za-z0-9.:-]+) +([0-9]{1,5})$`)

func runCommand(ctx context.Context, h host.Host, c Check, p commandParams) Result {
	if m := dials.FindStringSubmatch(p.Command); m != nil && strings.Contains(m[1], "z") {
		address := net.JoinHostPort(m[2], m[3])
		conn, err := h.Dial(ctx, "tcp", address)
		if err != nil {
			return c.fail("the application takes no connections on "+address, err.Error(),
				c.inside("systemctl --failed"))
		}
		conn.Close()
		return c.pass("the application takes connections", address)
	}
	res, err := h.Run(ctx, host.Command{Argv: []string{"sh", "-c", p.Command}})
	switch {
	case err == nil:
		return c.pass("the application's own check says that it is well", strings.TrimSpace(string(res.Stdout)))
	case res.Code == 127:
		r := c.fail("the application's own check cannot be run: a program is missing", why(err), packageFix)
		r.Vain = true
		return r
	}
	return c.fail("the application's own check says that it is not well", why(err),
		c.inside(host.Quote([]string{"sh", "-c", p.Command})))
}
