package cli

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/audit"
)

// However many containers say nothing, they are waited for at once and not one after the other, and never for longer
// than for all.
func TestSilentContainersAreWaitedForAtOnce(t *testing.T) {
	const silent, one, whole = 40, 200 * time.Millisecond, time.Second
	began := time.Now()
	seen := lookEverywhere(t.Context(), silent+1, whole, func(ctx context.Context, i int) audit.Seen {
		if i == 0 {
			return audit.Seen{Audit: true}
		}
		ctx, cancel := context.WithTimeout(ctx, one)
		defer cancel()
		<-ctx.Done()
		return audit.Seen{Unseen: []audit.Unseen{{Object: "container", Reason: "silent"}}}
	})
	if took := time.Since(began); took > 5*one { // one after the other: 8 s; sixteen at once: three times as long
		t.Errorf("they took %s", took)
	}
	if !seen[0].Audit || len(seen[silent].Unseen) != 1 {
		t.Errorf("%+v, %+v", seen[0], seen[silent])
	}
}

// More of them than are waited for at once do not outlast the limit, and the look at the hypervisor is not cut short
// by it.
func TestAuditHasALimitForAll(t *testing.T) {
	const whole = 200 * time.Millisecond
	var begun atomic.Int32
	began := time.Now()
	seen := lookEverywhere(t.Context(), 5*auditsAtOnce, whole, func(ctx context.Context, i int) audit.Seen {
		if i == 0 {
			time.Sleep(2 * whole)
			return audit.Seen{Audit: ctx.Err() == nil}
		}
		begun.Add(1)
		<-ctx.Done()
		return audit.Seen{Unseen: []audit.Unseen{{Object: "container", Reason: context.Cause(ctx).Error()}}}
	})
	if took := time.Since(began); took > 10*whole {
		t.Errorf("they took %s", took)
	}
	last := seen[len(seen)-1]
	if !seen[0].Audit || int(begun.Load()) != len(seen)-1 || len(last.Unseen) != 1 ||
		!strings.Contains(last.Unseen[0].Reason, "all containers together") {
		t.Errorf("the hypervisor %v, %d begun, the last %+v", seen[0].Audit, begun.Load(), last)
	}
}
