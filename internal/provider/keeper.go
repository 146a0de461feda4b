package provider

import (
	"context"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Keeper is a Deleter that puts aside what it deletes, so that a mistake can be undone. Of each object one is put
// aside: the one that was deleted last.
type Keeper[Spec any] interface {
	// Kept says where a deleted object is. It is pure.
	Kept(s Spec) Kept
	// Forget removes for good what was put aside. Nothing there is no error.
	Forget(ctx context.Context, h host.Host, s Spec) error
}

// Kept is where a deleted object was put aside, and the commands that bring it back and that remove it for good.
type Kept struct{ Place, Restore, Remove string }

// keeps is Keeper without its types.
type keeps interface {
	kept(o object.Object) (Kept, bool)
	forget(ctx context.Context, h host.Host, o object.Object) error
}

// KeptBy says where a driver's deleted object is; false: deleting it is for good.
func KeptBy(d Erased, o object.Object) (Kept, bool) {
	if k, ok := d.(keeps); ok {
		return k.kept(o)
	}
	return Kept{}, false
}

// Forget removes for good what a driver has put aside of a deleted object.
func Forget(ctx context.Context, d Erased, h host.Host, o object.Object) error {
	if k, ok := d.(keeps); ok {
		return k.forget(ctx, h, o)
	}
	return nil
}

func (e erased[Spec, Status]) kept(o object.Object) (Kept, bool) {
	k, ok := e.d.(Keeper[Spec])
	if !ok {
		return Kept{}, false
	}
	s, err := e.decode(o)
	if err != nil {
		return Kept{}, false
	}
	return k.Kept(s), true
}

func (e erased[Spec, Status]) forget(ctx context.Context, h host.Host, o object.Object) error {
	k, ok := e.d.(Keeper[Spec])
	if !ok {
		return nil
	}
	s, err := e.decode(o)
	if err != nil {
		return err
	}
	return k.Forget(ctx, h, s)
}
