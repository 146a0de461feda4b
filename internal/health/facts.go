package health

import (
	"fmt"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Facts are fields of objects' statuses that checks need, such as the root's fingerprint of pin/103.
type Facts map[object.Address]map[string]string

// Resolve copies the facts into the parameters of the checks that need them. Needs without a fact stay; those checks say so
// when they run.
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
		if fp, err := readPin(h, p.Path); err == nil {
			facts[o.Address] = map[string]string{fingerprintField: fp}
		}
	}
	return facts
}

const fingerprintField = "fingerprint"

// readPin finds the fingerprint in a pin file: the one word of 64 hex digits.
func readPin(h host.Host, path string) (string, error) {
	b, err := h.ReadFile(path)
	if err != nil {
		return "", err
	}
	words := strings.FieldsFunc(strings.ToLower(string(b)), func(r rune) bool { return !isWord(r) })
	found := ""
	for _, w := range words {
		if len(w) != 64 || strings.Trim(w, "0123456789abcdef") != "" || w == found {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("%s holds more than one fingerprint", path)
		}
		found = w
	}
	if found == "" {
		return "", fmt.Errorf("%s holds no SHA-256 fingerprint", path)
	}
	return found, nil
}

func isWord(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }
