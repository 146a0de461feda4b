package health

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Facts are fields of objects' statuses that checks need, such as the root's fingerprint of pin/103.
type Facts map[object.Address]map[string]string

// Resolve copies the facts into the parameters of the checks that need them. Needs without a fact stay; those checks
// say so when they run.
func Resolve(checks []Check, facts Facts) []Check {
	out := make([]Check, len(checks))
	for i, c := range checks {
		var left []object.Need
		for _, n := range c.Needs {
			value, ok := facts[n.From][n.Field]
			filled, err := object.Fill(c.Params, n.Into, value)
			if !ok || err != nil {
				left = append(left, n)
				continue
			}
			c.Params = filled
		}
		c.Needs = left
		out[i] = c
	}
	return out
}

// ReadPins reads the pinned fingerprints on the hypervisor h. What is not pinned yet is left out: its check says why.
func ReadPins(h host.Host, objects []object.Object) Facts {
	facts := Facts{}
	for _, o := range objects {
		if o.Address.Kind() != spec.KindPin {
			continue
		}
		p, err := decode[spec.Pin](o.Spec)
		if err != nil {
			continue
		}
		if pins, err := readEither(h, p); err == nil {
			facts[o.Address] = map[string]string{fingerprintField: pins.Root}
		}
	}
	return facts
}

// ReadPinFiles reads what the pin files on the hypervisor h say, by the CA's container. Those that say nothing are left
// out.
func ReadPinFiles(h host.Host, objects []object.Object) map[string]spec.Pins {
	out := map[string]spec.Pins{}
	for _, o := range objects {
		if o.Address.Kind() != spec.KindPin {
			continue
		}
		p, err := decode[spec.Pin](o.Spec)
		if err != nil {
			continue
		}
		if pins, err := readEither(h, p); err == nil {
			out[o.Address.Scope()] = pins
		}
	}
	return out
}

const fingerprintField = "fingerprint"

// readEither reads this node's pin or, where a container came from another node, the one that the cluster has.
func readEither(h host.Host, p spec.Pin) (spec.Pins, error) {
	pins, err := readPin(h, p.Path)
	if errors.Is(err, fs.ErrNotExist) && p.Copy != "" {
		return readPin(h, p.Copy)
	}
	return pins, err
}

func readPin(h host.Host, path string) (spec.Pins, error) {
	b, err := h.ReadFile(path)
	if err != nil {
		return spec.Pins{}, err
	}
	pins, err := spec.ParsePins(string(b))
	if err != nil {
		return spec.Pins{}, fmt.Errorf("%s holds no SHA-256 fingerprint: %w", path, err)
	}
	return pins, nil
}
