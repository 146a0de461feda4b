package provider

import (
	"context"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Refuser is a Deleter that may have to refuse, as what nobody named would be lost with the object. It is asked before
// anything is touched.
type Refuser[Spec any] interface {
	Refuse(ctx context.Context, h host.Host, s Spec) error
}

type refuses interface {
	refuse(ctx context.Context, h host.Host, o object.Object) error
}

// Refused says why an object is not deleted; nil: nothing speaks against it.
func Refused(ctx context.Context, d Erased, h host.Host, o object.Object) error {
	if r, ok := d.(refuses); ok {
		return r.refuse(ctx, h, o)
	}
	return nil
}

func (e erased[Spec, Status]) refuse(ctx context.Context, h host.Host, o object.Object) error {
	r, ok := e.d.(Refuser[Spec])
	if !ok {
		return nil
	}
	s, err := e.decode(o)
	if err != nil {
		return err
	}
	return r.Refuse(ctx, h, s)
}
