package health

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
)

// The ids of the checks about what the CA issued.
const (
	IssuedUnwanted = "PHX-CA-006"
	IssuedForeign  = "PHX-CA-007"
)

// issuedLimit is for several containers that are asked one after the other: the CA, then those with certificates, then
// the CA's log.
const issuedLimit = 8 * time.Second

// issuedParams are none: what the CA issued is judged by what several containers say, which one of them alone cannot.
type issuedParams struct{}

// AboutIssued tells whether a check is answered by Issued, from what whoever runs the checks has gathered.
func AboutIssued(c Check) bool { return c.Kind == kindUnwanted || c.Kind == kindForeign }

func runIssued(_ context.Context, _ host.Host, c Check, _ issuedParams) Result {
	return c.unasked("what the CA issued was not compared", "one container alone cannot: phoenix health, on the "+
		"hypervisor")
}

// Issued is the result of such a check.
func Issued(c Check, r issued.Report, err error) Result {
	switch {
	case err != nil:
		return c.fail("what the CA issued is not known", err.Error(), c.apply())
	case c.Kind == kindUnwanted:
		return c.unwanted(r)
	}
	return c.foreign(r)
}

func (c Check) unwanted(r issued.Report) Result {
	if list := r.Of(issued.Unwanted); len(list) > 0 {
		return c.fail(counted(len(list), "valid certificate")+" that the configuration has no use for", inWords(list),
			issued.UnwantedFix(list))
	}
	evidence := fmt.Sprintf("%s issued", counted(len(r.Certificates), "valid certificate"))
	if list := r.Of(issued.Listed); len(list) > 0 {
		evidence += fmt.Sprintf(", %d for names of allowed_names", len(list))
	}
	if list := r.Of(issued.Former); len(list) > 0 {
		evidence += ", " + counted(len(list), "certificate") + " of a container for a name that it has no more: " +
			inWords(list)
	}
	for names, n := range r.More {
		evidence += fmt.Sprintf(", and %d more for %s", n, names)
	}
	if len(r.Lost) > 0 {
		evidence += "; the CA's database was lost at " + strings.Join(r.Lost, ", ") +
			": what it issued in the second before may be missing"
	}
	return c.pass("every valid certificate is for names of the configuration", evidence)
}

func (c Check) foreign(r issued.Report) Result {
	if list := r.Of(issued.Foreign); len(list) > 0 {
		summary := counted(len(list), "valid certificate") + " for a container's name, and not the container's"
		return c.fail(summary, inWords(list), issued.ForeignFix(list))
	}
	if list := r.Of(issued.Unclear); len(list) > 0 {
		return c.unasked("whose certificates these are could not be asked",
			"container "+list[0].Container+" did not say: "+inWords(list))
	}
	evidence := fmt.Sprintf("%d accounted for", len(r.Of(issued.Accounted, issued.Former)))
	return c.pass("every certificate for a container's name went to that container", evidence)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// inWords names certificates, the first few by all that is known of them.
func inWords(list []issued.Verdict) string {
	var out []string
	for _, v := range list[:min(len(list), 3)] {
		out = append(out, v.Words())
	}
	if more := len(list) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("and %d more (phoenix ca issued)", more))
	}
	return strings.Join(out, "; ")
}
