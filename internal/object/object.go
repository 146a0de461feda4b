// Package object names the things that phoenix keeps true and how they depend on one another. It is pure data.
package object

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Address names an object for people and programs: kind/scope or kind/scope/name, such as volume/101/ssl. The scope is
// a container's id, or the thing's own name where it belongs to no container (network/vmbr0).
type Address string

// NewAddress joins the parts.
func NewAddress(kind string, parts ...string) Address {
	return Address(kind + "/" + strings.Join(parts, "/"))
}

// Kind is the part before the first slash.
func (a Address) Kind() string {
	kind, _, _ := strings.Cut(string(a), "/")
	return kind
}

// Scope is the part after the kind: a container's id or the thing's own name.
func (a Address) Scope() string {
	parts := strings.SplitN(string(a), "/", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

// Name is what follows the scope; empty where there is none.
func (a Address) Name() string {
	parts := strings.SplitN(string(a), "/", 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[2]
}

// Need copies a field of another object's status into this object's spec once that object is true.
type Need struct {
	From  Address `json:"from"`
	Field string  `json:"field"` // top-level JSON name in From's status
	Into  string  `json:"into"`  // JSON pointer (RFC 6901) into this object's spec
}

// Source is the place in a file that asks for an object.
type Source struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"` // 1-based
}

// String is file:line, or the file where no line is known.
func (s Source) String() string {
	if s.Line == 0 {
		return s.File
	}
	return fmt.Sprintf("%s:%d", s.File, s.Line)
}

// Object is one thing to keep true.
type Object struct {
	Address   Address `json:"address"`
	Provider  string  `json:"provider"`            // which driver keeps it, such as dir for volume/101/ssl
	Container string  `json:"container,omitempty"` // the container it belongs to; empty: to none
	// where it is observed and applied: empty is the hypervisor, else inside that container
	Host   string          `json:"host,omitempty"`
	Spec   json.RawMessage `json:"spec"`
	After  []Address       `json:"after,omitempty"` // true before this one is touched
	Needs  []Need          `json:"needs,omitempty"`
	Source Source          `json:"source,omitzero"`
}

// Dependencies are all addresses that must be true before this object, each once: After, then Needs.
func (o Object) Dependencies() []Address {
	seen := make(map[Address]bool, len(o.After)+len(o.Needs))
	var out []Address
	add := func(a Address) {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	for _, a := range o.After {
		add(a)
	}
	for _, n := range o.Needs {
		add(n.From)
	}
	return out
}

// Find returns the object with the address.
func Find(objects []Object, a Address) (Object, bool) {
	for _, o := range objects {
		if o.Address == a {
			return o, true
		}
	}
	return Object{}, false
}

// Fill returns spec with value set at the JSON pointer into. Missing objects on the way are made; a missing array
// element is an error.
func Fill(spec json.RawMessage, into string, value any) (json.RawMessage, error) {
	var root any
	if err := json.Unmarshal(spec, &root); err != nil {
		return nil, fmt.Errorf("spec is not JSON: %w", err)
	}
	parts := strings.Split(strings.TrimPrefix(into, "/"), "/")
	filled, err := fill(root, parts, value)
	if err != nil {
		return nil, fmt.Errorf("cannot fill %s: %w", into, err)
	}
	return json.Marshal(filled)
}

func fill(node any, parts []string, value any) (any, error) {
	if len(parts) == 0 {
		return value, nil
	}
	key := strings.NewReplacer("~1", "/", "~0", "~").Replace(parts[0])
	switch n := node.(type) {
	case nil:
		return fill(map[string]any{}, parts, value)
	case map[string]any:
		child, err := fill(n[key], parts[1:], value)
		n[key] = child
		return n, err
	case []any:
		var i int
		if _, err := fmt.Sscanf(key, "%d", &i); err != nil || i < 0 || i >= len(n) {
			return nil, fmt.Errorf("no element %q", key)
		}
		child, err := fill(n[i], parts[1:], value)
		n[i] = child
		return n, err
	}
	return nil, fmt.Errorf("%q is inside a plain value", key)
}
