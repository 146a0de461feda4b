package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// A house as the old scripts left it is moved while a client calls: no request fails, the root stays, what leaked is new, and
// afterwards nothing is left to do.
func TestMigrateLive(t *testing.T) {
	o := newOldLayout(t)
	c := &caller{h: o.Hypervisor, root: o.root, serials: map[string]bool{}}
	if !await(30*time.Second, func() bool { return c.request(gateway) == nil }) {
		t.Fatalf("the old house does not work: %v", c.request(gateway))
	}
	_, r := o.audit(3)
	t.Logf("audit before: %d findings", strings.Count(r.Stdout, `"rule"`))
	o.Phoenix("health").Want(78) // a shared directory is refused
	t.Log(o.Phoenix("migrate", "--live", "--from", o.lxc).Want(0))

	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { c.during(gateway, stop) })
	r = o.Phoenix("migrate", "--live", "--from", o.lxc, "--yes")
	close(stop)
	all.Wait()
	t.Log(r)
	r.Want(0)
	t.Logf("%d requests, %d failed", c.requests, len(c.failed))
}
