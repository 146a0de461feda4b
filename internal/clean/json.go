package clean

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Shape bounds a JSON document.
type Shape struct {
	Depth  int // objects and lists in one another
	Values int // all of them, names included
	String int // bytes of one string
}

// ErrShape is a document that is deeper or has more values than it may.
var ErrShape = errors.New("a document that is too deep or has too many values")

// JSON is the document with all its strings, names of members too, as Lines. lines are the names of members whose
// strings may have several lines. A document beyond the shape is refused before anything is made of it.
func JSON(raw []byte, shape Shape, lines map[string]bool) ([]byte, error) {
	if err := shape.check(raw); err != nil {
		return nil, err
	}
	if !json.Valid(raw) {
		return nil, errors.New("no JSON")
	}
	if plain(string(raw)) && !bytes.ContainsRune(raw, '\\') && len(raw) <= shape.String {
		return raw, nil // the usual case: there is nothing to clean in it
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // as it was written
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(shape.clean(doc, false, lines))
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// check counts without decoding.
func (s Shape) check(raw []byte) error {
	depth, values, quoted := 0, 1, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			values++
		case c == '}' || c == ']':
			depth--
		case c == ',' || c == ':':
			values++
		}
		if depth > s.Depth || values > s.Values {
			return fmt.Errorf("%w (at most %d and %d)", ErrShape, s.Depth, s.Values)
		}
	}
	return nil
}

func (s Shape) clean(v any, multi bool, lines map[string]bool) any {
	switch x := v.(type) {
	case string:
		return text(x, s.String, multi)
	case []any:
		for i := range x {
			x[i] = s.clean(x[i], multi, lines)
		}
	case map[string]any:
		out := make(map[string]any, len(x))
		for name, value := range x {
			out[Line(name, s.String)] = s.clean(value, lines[name], lines)
		}
		return out
	}
	return v
}
