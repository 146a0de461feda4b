package agent

import (
	"context"
	"encoding/json"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// recordEvery is how often the daemon looks whether the CA beside it has issued something. What happens in between
// stands in the CA's own database.
const recordEvery = time.Second

// keepRecord writes down what the CA of this container issues, until ctx ends. It waits for no round, and no round
// waits for it.
func (d *Daemon) keepRecord(ctx context.Context) {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	stamp, told := "", ""
	for {
		if source := d.source.Load(); source != nil {
			if now := source.Stamp(); now != stamp {
				err := source.Keep(ctx, d.Host)
				if err == nil {
					stamp = now // of before it was read
				}
				if text := text(err); text != told && ctx.Err() == nil {
					told = text
					if err != nil {
						d.Log.Error("what the CA issued was not written down", "error", err)
					}
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// remember takes the CA's volume from the list of objects, where there is one.
func (d *Daemon) remember(objects []object.Object) {
	for _, o := range objects {
		var s spec.StepCA
		if o.Address.Kind() == spec.KindStepCA && json.Unmarshal(o.Spec, &s) == nil && s.Database == issued.Readable {
			d.source.Store(&issued.Source{Dir: s.Dir, Database: s.Database})
			return
		}
	}
	d.source.Store(nil)
}
