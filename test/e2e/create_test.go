package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/test/sample"
)

// Each container alone brings what it depends on; every order of the three,
// from nothing, ends healthy, and a run after that changes nothing.
func TestEveryOrderEndsHealthy(t *testing.T) {
	beside(t)
	orders := [][]string{{"103", "101", "102"}, {"101", "102", "103"}, {"102", "101", "103"}}
	if os.Getenv(sample.Everything) != "" {
		orders = append(orders, []string{"103", "102", "101"}, []string{"101", "103", "102"}, []string{"102", "103", "101"})
	}
	for _, order := range orders {
		t.Run(strings.Join(order, "-"), func(t *testing.T) {
			h := New(t, homelab())
			for _, id := range order {
				h.Phoenix("create", id).Want(0)
				h.WantHealthy(id)
			}
			h.WantHealthy("101", "102", "103")
			h.WantNoChange("103", "101", "102")
		})
	}
}

// All at once is the same as one after the other.
func TestCreateTogether(t *testing.T) {
	beside(t)
	h := New(t, homelab())
	var first Created
	h.Phoenix("create", "103", "101", "102", "-o", "json").Want(0).JSON(&first)
	if len(first.Changes) == 0 || first.Mutations == 0 {
		t.Errorf("the first run reports no work: %+v", first)
	}
	h.WantNoChange("103", "101", "102")
	h.WantHealthy("103", "101", "102")
	h.Phoenix("plan", "--detailed-exitcode", "103", "101", "102").Want(0)
}
