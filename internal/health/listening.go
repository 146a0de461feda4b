package health

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// listeningParams are the ports that an object, a rule or the file wants: tcp/443, udp/8000-8010.
type listeningParams struct {
	Wanted []string `json:"wanted"`
}

// listenersTold is how many listeners are named.
const listenersTold = 5

// runListening looks for what takes connections from others and that nothing in the configuration asks for.
func runListening(_ context.Context, h host.Host, c Check, p listeningParams) Result {
	list, err := host.Listeners(h)
	if err != nil {
		return c.fail("what listens in the container is not known", err.Error(), c.apply())
	}
	var unwanted []host.Listener
	var ports []string
	for _, l := range list {
		if !p.wants(l) {
			unwanted = append(unwanted, l)
			continue
		}
		ports = append(ports, l.Protocol+"/"+strconv.Itoa(l.Port))
	}
	if len(unwanted) == 0 {
		return c.pass("nothing listens in the container that is not wanted", strings.Join(ports, " "))
	}
	var said []string
	told := unwanted[:min(len(unwanted), listenersTold)]
	for i, who := range host.Owners(h, told) {
		said = append(said, fmt.Sprintf("%s on %s/%d", who, told[i].Protocol, told[i].Port))
	}
	if more := len(unwanted) - len(told); more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	const summary = "something listens in the container that the configuration does not ask for"
	return c.fail(summary, strings.Join(said, ", "), c.listeningFix())
}

// wants tells whether a port is one of those.
func (p listeningParams) wants(l host.Listener) bool {
	for _, w := range p.Wanted {
		protocol, ports, _ := strings.Cut(w, "/")
		first, last, isRange := strings.Cut(ports, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err == nil && err2 == nil && protocol == l.Protocol && from <= l.Port && l.Port <= to {
			return true
		}
	}
	return false
}

// listeningFix is for a person to decide: phoenix cannot know who needs it.
func (c Check) listeningFix() string {
	return c.inside("systemctl disable --now UNIT") + " where nobody needs it; else name its port in the container's " +
		`definition, such as "listens": ["tcp/22"], then phoenix apply ` + c.container()
}
