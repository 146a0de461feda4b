package certificate

import (
	"os"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

// Two processes of one container, the daemon and a session of the hypervisor's, may order at once, as an order waits
// for the CA outside of the lock. They use one account: what the other one ordered would look stolen.
func TestOneAccountForAllWhoOrderAtOnce(t *testing.T) {
	ca := sandbox.StartCA(t, day, "a.test.internal", "b.test.internal")
	h, s := &host.Local{}, specIn(room(t), ca)
	var orders []*order
	for range 2 {
		o, err := newOrder(h, s, Driver{}.answerer(s))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.prepareAccount(); err != nil {
			t.Fatal(err)
		}
		orders = append(orders, o)
	}
	for _, o := range orders { // each has loaded the account before the other one is registered
		a, err := loadAccount(h, s)
		if err != nil {
			t.Fatal(err)
		}
		o.account = a
	}
	for _, o := range orders {
		if err := o.register(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := loadAccount(h, s)
	if err != nil || kept.Location == "" || kept.Location != orders[0].account.Location ||
		kept.Location != orders[1].account.Location {
		t.Errorf("%v: accounts %q and %q, kept is %q", err, orders[0].account.Location, orders[1].account.Location,
			kept.Location)
	}
	if raw, err := os.ReadFile(accountFile(s)); err != nil || len(formerAccounts(h, s)) != 1 {
		t.Errorf("%v: more than one account was written down: %s", err, raw)
	}
}
