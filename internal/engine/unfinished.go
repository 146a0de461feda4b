package engine

import (
	"maps"
	"sync"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// unfinished are the changes that were begun in a Run that was ended before it saw what came of them, such as the start
// of a container whose boot was not waited for. The Run that finds the object up to date reports the change: otherwise
// nobody would, as that Run has nothing to do.
type unfinished struct {
	mu     sync.Mutex // guards deltas
	deltas map[object.Address]plan.Delta
}

// note remembers what was begun.
func (u *unfinished) note(a object.Address, d plan.Delta) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.deltas == nil {
		u.deltas = map[object.Address]plan.Delta{}
	}
	if _, known := u.deltas[a]; !known { // the first one says what was found
		u.deltas[a] = d
	}
}

// complete is what is to be reported of an object that is up to date: where nothing was left to do, what was begun
// before.
func (u *unfinished) complete(a object.Address, out Outcome) Outcome {
	u.mu.Lock()
	defer u.mu.Unlock()
	if d, begun := u.deltas[a]; begun && out.Delta.Empty() {
		out.Delta = d
	}
	delete(u.deltas, a)
	return out
}

// keep forgets what belongs to objects that are not among these any more.
func (u *unfinished) keep(among map[object.Address]provider.Observation) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.deltas, func(a object.Address, _ plan.Delta) bool {
		_, kept := among[a]
		return !kept
	})
}
